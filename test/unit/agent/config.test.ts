import t from 'tap';
import { parseAgentConfig } from '../../../agent/config.ts';

const MINIMAL = 'host: a\ntrustDomain: mesh.test\n';

t.test('defaults', async (t) => {
  const config = parseAgentConfig(MINIMAL, 'agent.yaml');
  t.match(config, {
    stateDir: '/var/lib/mesh',
    ports: { outbound: 15001, gossip: 15300 },
    redirect: { enabled: true, onProxyFailure: 'closed' },
  });
  t.same(config.workloads, []);
});

t.test('each fault is named with its place and cure', async (t) => {
  const cases: [string, RegExp][] = [
    ['hots: a\n', /agent.yaml:\d+:1: unknown key hots; allowed here: .*host/],
    ['', /host is required/],
    [`${MINIMAL}logLevel: loud\n`, /agent.yaml:3:11: logLevel: expected one of error, warn, info, debug, found "loud"/],
    [
      `${MINIMAL}ports:\n  dns: 53\n`,
      /agent.yaml:4:8: ports.dns: expected a whole number from 1024 to 65535, found 53/,
    ],
    [`${MINIMAL}ports:\n  dns: 15001\n`, /port 15001 is outbound's already/],
    [`${MINIMAL}addresses: [localhost]\n`, /addresses: expected an IP address, found "localhost"/],
    [
      `${MINIMAL}workloads:\n  - group: reviews\n    user: r\n`,
      /agent.yaml:4:12: workloads\[0\].group: expected NAMESPACE\/NAME/,
    ],
    [`${MINIMAL}workloads:\n  - {group: a/b, user: r}\n  - {group: a/c, user: r}\n`, /user r is bound twice/],
    [`${MINIMAL}workloads:\n  - {group: a/b, user: root}\n`, /user root cannot run a workload/],
    [
      `${MINIMAL}workloads:\n  - {group: a/b, unit: w.service, user: w}\n`,
      /unit: a workload is bound to a user or to a unit/,
    ],
    [`${MINIMAL}workloads:\n  - {group: a/b, unit: w}\n`, /unit: expected NAME.service, found "w"/],
    [`${MINIMAL}workloads:\n  - {group: a/b}\n`, /user is required: .*NAME.service/],
    ...[
      [
        '[[check]]',
        /agent.yaml:3:48: workloads\[0\].execProbes\[0\]: expected \[PROGRAM, .*absolute path, found \["check"\]/,
      ],
      ['[[/c, "\\n"]]', /workloads\[0\].execProbes\[0\]: no line breaks, other control or format characters/],
      ['[[/c, "a\\u202eb"]]', /execProbes\[0\]: no .*format characters.*: "a\\u\{202e\}b"$/],
      ['[[/c, "\\u200b"]]', /execProbes\[0\]: no .*format characters/],
      ['[[/c, "\\U000e0041"]]', /execProbes\[0\]: no .*format characters/],
      ['[[/c, "\\0"]]', /execProbes\[0\]: no line breaks/],
      ['[[/c, "\\ud800"]]', /execProbes\[0\]: .*broken Unicode/],
      ['[[/c, "\\uffff"]]', /execProbes\[0\]: .*broken Unicode/],
      ['[[/c, ""]]', /execProbes\[0\]: no empty word/],
      ['[[/c], []]', /execProbes\[1\]: expected \[PROGRAM/],
      ['[[/c], /d]', /execProbes\[1\]: expected a list of texts/],
      ['[/c, -f]', /execProbes\[0\]: expected a list of texts/],
      ['[[/c, 5]]', /agent.yaml:3:53: workloads\[0\].execProbes\[0\]\[1\]: expected a text \(in quotes\), found 5/],
      ['[[/c, [a]]]', /execProbes\[0\]\[1\]: expected a text/],
      ['[[/c, -f], [/c, -f]]', /execProbes: \["\/c","-f"\] is listed twice/],
      [`[[/c, ${'x, '.repeat(64)}]]`, /execProbes\[0\]: at most 64 words/],
      [`[[/c, ${'x'.repeat(4100)}]]`, /execProbes\[0\]: at most 4096 bytes/],
      [`[${Array.from({ length: 17 }, (_, i) => `[/c${i}]`).join(', ')}]`, /execProbes: at most 16 items/],
      ['[[/]]', /execProbes\[0\]: expected \[PROGRAM/],
      ['/c', /execProbes: expected a list/],
    ].map(([list, message]): [string, RegExp] => [
      `${MINIMAL}workloads: [{group: a/b, user: w, execProbes: ${list}}]\n`,
      message as RegExp,
    ]),
    [`${MINIMAL}gateways: [a]\n`, /gateways: expected NAMESPACE\/NAME/],
    [`${MINIMAL}gateways: [a/b]\nworkloads:\n  - {group: a/b, user: w}\n`, /a\/b is bound twice/],
    [`${MINIMAL}redirect: yes\n`, /redirect: expected a mapping/],
    ['host: a\nhost: b\n', /agent.yaml:2:1: /],
    ['[1, 2]', /expected a mapping/],
    ['a: [', /^agent.yaml:1:5: Flow sequence.* must be sufficiently indented and end with a .$/],
    [`${MINIMAL}---\na: 1\n`, /^agent.yaml:3:1: a second document begins here; one is expected$/],
  ];
  for (const [text, message] of cases)
    t.throws(() => parseAgentConfig(text, 'agent.yaml'), { code: 'CONFIG_INVALID', message }, text);
});

t.test('a unit stands where a user stands', async (t) => {
  const { workloads } = parseAgentConfig(`${MINIMAL}workloads:\n  - {group: a/b, unit: w@1.service}\n`, 'agent.yaml');
  t.same(workloads, [{ group: 'a/b', user: 'w@1.service', portOwners: [], execProbes: [] }]);
});

t.test('commands of exec probes are kept word by word', async (t) => {
  const list = [['/usr/local/bin/check', '--fast', 'a b', '%n$HOME"\\', '-1', 'é'], ['/bin/true']];
  const text = `${MINIMAL}workloads:\n  - {group: a/b, user: w, execProbes: ${JSON.stringify(list)}}\n`;
  t.strictSame(parseAgentConfig(text, 'agent.yaml').workloads[0]?.execProbes, list);
});

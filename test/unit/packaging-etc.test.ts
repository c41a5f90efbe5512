import { readFileSync } from 'node:fs';
import t from 'tap';
import { parse } from 'yaml';
import { parseAgentConfig } from '../../agent/config.ts';
import { parseControllerConfig } from '../../controller/config.ts';

const read = (file: string) => readFileSync(new URL(`../../packaging/etc/${file}`, import.meta.url), 'utf8');

/** The reference files equal the defaults, key by key, and lack none. */
t.test('agent.yaml', async (t) => {
  const minimal = 'host: h\ntrustDomain: t.test\n';
  const defaults = parseAgentConfig(minimal, 'x');
  t.same(parseAgentConfig(minimal + read('agent.yaml'), 'agent.yaml'), defaults);
  t.same(Object.keys({ ...parse(read('agent.yaml')), host: 0, trustDomain: 0 }).sort(), Object.keys(defaults).sort());
});

t.test('controller.yaml', async (t) => {
  const text = read('controller.yaml');
  const { trustDomain, addresses } = parse(text);
  const minimal = JSON.stringify({ trustDomain, addresses });
  t.same(parseControllerConfig(text, 'controller.yaml'), parseControllerConfig(minimal, 'x'));
  t.same(Object.keys(parse(text)).sort(), Object.keys(parseControllerConfig(minimal, 'x')).sort());
});

t.test('controller.yaml: faults', async (t) => {
  const cases: [string, RegExp][] = [
    ['trustDomain: a.test\n', /addresses: name at least one IP address/],
    ['addresses: [10.0.0.1]\n', /trustDomain is required/],
    ['trustDomain: a.test\naddresses: [x]\n', /expected an IP address, found "x"/],
    ['trustDomain: a.test\naddresses: [10.0.0.1]\nports: {rest: 15201}\n', /different ports/],
    ['trustDomain: a.test\naddresses: [10.0.0.1]\nreplicas: 3\n', /unknown key replicas/],
  ];
  for (const [text, message] of cases)
    t.throws(() => parseControllerConfig(text, 'c.yaml'), { code: 'CONFIG_INVALID', message }, text);
});

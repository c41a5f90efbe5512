import t from 'tap';
import { type KindInfo, kindByName } from '../../../../api/resources/registry.ts';
import { applyPatch, jsonPatch, mergePatch } from '../../../../controller/rest/patch.ts';

const STRATEGIC = 'application/strategic-merge-patch+json';
const service = kindByName('Service') as KindInfo;

/** What t.throws compares with; its type wants an Error. */
const refusal = (status: object): Error => ({ status }) as unknown as Error;

t.test('merge patch: the examples of RFC 7386, appendix A', async (t) => {
  const cases: [unknown, unknown, unknown][] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [
      ['a', 'b'],
      ['c', 'd'],
      ['c', 'd'],
    ],
    [{ a: 'b' }, ['c'], ['c']],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ];
  for (const [target, patch, expected] of cases)
    t.strictSame(mergePatch(target, patch), expected, JSON.stringify(patch));
});

t.test('JSON patch: RFC 6902, appendix A and its refusals', async (t) => {
  const cases: [unknown, unknown[], unknown][] = [
    [{ foo: 'bar' }, [{ op: 'add', path: '/baz', value: 'qux' }], { foo: 'bar', baz: 'qux' }],
    [{ foo: ['bar', 'baz'] }, [{ op: 'add', path: '/foo/1', value: 'qux' }], { foo: ['bar', 'qux', 'baz'] }],
    [{ foo: ['bar'] }, [{ op: 'add', path: '/foo/-', value: ['abc'] }], { foo: ['bar', ['abc']] }],
    [{ a: 1, b: 2 }, [{ op: 'remove', path: '/a' }], { b: 2 }],
    [{ a: [1, 2, 3] }, [{ op: 'remove', path: '/a/1' }], { a: [1, 3] }],
    [{ a: [1, 2, 3] }, [{ op: 'replace', path: '/a/1', value: 9 }], { a: [1, 9, 3] }],
    [{ a: { b: 1 }, c: {} }, [{ op: 'move', from: '/a/b', path: '/c/d' }], { a: {}, c: { d: 1 } }],
    [{ a: [1, 2, 3] }, [{ op: 'move', from: '/a/0', path: '/a/2' }], { a: [2, 3, 1] }],
    [{ a: { b: 1 } }, [{ op: 'copy', from: '/a', path: '/c' }], { a: { b: 1 }, c: { b: 1 } }],
    [
      { '/': 9, '~1': 10 },
      [
        { op: 'test', path: '/~01', value: 10 },
        { op: 'remove', path: '/~1' },
      ],
      { '~1': 10 },
    ],
    [{ a: 1 }, [{ op: 'add', path: '', value: { b: 2 } }], { b: 2 }],
  ];
  for (const [target, patch, expected] of cases) {
    const before = structuredClone(target);
    t.strictSame(jsonPatch(target, patch), expected, JSON.stringify(patch));
    t.strictSame(target, before, 'nothing is changed in place');
  }
  const refused: [unknown, number][] = [
    [[{ op: 'remove', path: '/no' }], 422],
    [[{ op: 'add', path: '/no/deep', value: 1 }], 422],
    [[{ op: 'add', path: '/a/9', value: 1 }], 422],
    [[{ op: 'add', path: '/a/01', value: 1 }], 422],
    [[{ op: 'add', path: '/a' }], 422],
    [[{ op: 'test', path: '/a/0', value: '1' }], 422],
    [[{ op: 'add', path: 'a', value: 1 }], 422],
    [[{ op: 'add', path: '/__proto__/x', value: 1 }], 422],
    [[{ op: 'replace', path: '/constructor', value: 1 }], 422],
    [[{ op: 'move', from: '/a', path: '/a/0' }], 422],
    [[{ op: 'explode', path: '/a' }], 422],
    [[7], 400],
    ['x', 400],
    [Array(10_001).fill({ op: 'test', path: '', value: 1 }), 400],
    [
      [
        { op: 'add', path: '/b', value: 'x'.repeat(100_000) },
        ...Array.from({ length: 40 }, (_, i) => ({ op: 'copy', from: '', path: `/c${i}` })),
      ],
      422,
    ],
  ];
  for (const [patch, code] of refused)
    t.throws(() => jsonPatch({ a: [1] }, patch), refusal({ code }), JSON.stringify(patch).slice(0, 80));
  t.equal(({} as { x?: number }).x, undefined);
});

t.test('strategic merge: keyed lists, order, directives', async (t) => {
  const target = {
    spec: {
      ports: [
        { port: 80, name: 'a' },
        { port: 90, name: 'b' },
      ],
      externalIPs: ['1.2.3.4'],
    },
  };
  const ports = (patch: object) =>
    (applyPatch(STRATEGIC, service, target, { spec: patch }) as typeof target).spec.ports.map(
      (one) => `${one.port}${one.name}`,
    );
  t.same(ports({ ports: [{ port: 80, name: 'x' }] }), ['80x', '90b']);
  t.same(ports({ ports: [{ port: 70, name: 'c' }] }), ['80a', '90b', '70c']);
  t.same(ports({ ports: [{ port: 80, $patch: 'delete' }] }), ['90b']);
  t.same(ports({ ports: [{ $patch: 'replace' }, { port: 1, name: 'z' }] }), ['1z']);
  t.same(
    ports({ ports: [{ port: 70, name: 'c' }], '$setElementOrder/ports': [{ port: 70 }, { port: 90 }, { port: 80 }] }),
    ['70c', '90b', '80a'],
  );
  t.strictSame(applyPatch(STRATEGIC, service, target, { spec: { externalIPs: ['5.6.7.8'], ports: null } }), {
    spec: { externalIPs: ['5.6.7.8'] },
  });
  t.strictSame(applyPatch(STRATEGIC, service, target, { spec: { $patch: 'replace', type: 'x' } }), {
    spec: { type: 'x' },
  });
  t.strictSame(applyPatch(STRATEGIC, service, target, { spec: { $retainKeys: ['externalIPs'], externalIPs: ['x'] } }), {
    spec: { externalIPs: ['x'] },
  });
  for (const bad of [
    { spec: { '$deleteFromPrimitiveList/x': [] } },
    { $patch: 'odd' },
    { spec: { ports: [{ name: 'x' }] } },
    { spec: { ports: [7] } },
    [],
  ])
    t.throws(() => applyPatch(STRATEGIC, service, target, bad), refusal({ code: 400 }), JSON.stringify(bad));
});

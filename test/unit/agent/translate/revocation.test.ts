import t from 'tap';
import { translate } from '../../../../agent/translate/translate.ts';
import { meshView } from '../mesh-view/build-mesh.ts';
import { GOLDEN_CASES } from './golden-cases.ts';

/** Inbound filter chains by name, as text. */
function chains(revoked: readonly string[]): Map<string, string> {
  const { objects, hosts } = GOLDEN_CASES.plain as (typeof GOLDEN_CASES)[string];
  const { listener } = translate(meshView({ objects, hosts, self: 'b', revoked })).resources;
  const { body } = listener.get('inbound') as { body: unknown };
  const { filter_chains: list } = body as { filter_chains: { name: string }[] };
  return new Map(list.map((chain) => [chain.name, JSON.stringify(chain)]));
}

t.test(
  'a revocation renews every chain that takes mTLS, so that Envoy ends what is open on it, streams too',
  async (t) => {
    const before = chains([]);
    const after = chains(['a']);
    t.ok(before.size >= 4);
    t.same([...after.keys()], [...before.keys()]);
    for (const [name, text] of before) t.equal(after.get(name) !== text, name.includes('_mtls_'), name);
    t.same(chains(['a']), after, 'and nothing else does');
  },
);

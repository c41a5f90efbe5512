/**
 * The arrows of docs/architecture.md, "Imports": who may import whom. Run by `scripts/check` and by test/unit/scripts/arrows.test.ts.
 * Each rule forbids what its page does not allow; type-only imports count like others (a type is an arrow too).
 */
const PURE = '^(api|agent/mesh-view|agent/translate|agent/explain)/';

/** For each room of the agent, the sibling rooms it may import. A room that is not listed may import none. */
const AGENT = {
  translate: ['mesh-view'],
  xds: ['translate'],
  envoy: ['host'],
  redirect: ['host'],
  workloads: ['host'],
  dns: ['host'],
};

/** The same for the controller. */
const CONTROLLER = {
  signing: ['store'],
  ca: ['store'],
  rest: ['store', 'ca'],
  publish: ['signing', 'ca', 'store'],
};

/** One rule per program: a room imports itself and the rooms listed for it; one rule for all rooms that are not listed. */
function siblings(program, allowed) {
  const listed = Object.entries(allowed).map(([room, others]) => ({
    name: `${program}-${room}-siblings`,
    comment: `${program}/${room} may import of its siblings: ${others.join(', ')}`,
    severity: 'error',
    from: { path: `^${program}/${room}/` },
    to: { path: `^${program}/[^/]+/`, pathNot: `^${program}/(${[room, ...others].join('|')})/` },
  }));
  const unlisted = {
    name: `${program}-no-sibling`,
    comment: `a room of ${program} without an entry in this file imports no sibling: declare the narrow shape, let the composition root join`,
    severity: 'error',
    from: { path: `^${program}/([^/]+)/`, pathNot: `^${program}/(${Object.keys(allowed).join('|')})/` },
    to: { path: `^${program}/[^/]+/`, pathNot: `^${program}/$1/` },
  };
  const root = {
    name: `${program}-rooms-not-root`,
    comment: 'only main.ts knows the composition root; config.ts is data and may be read by every room',
    severity: 'error',
    from: { path: `^${program}/[^/]+/` },
    to: { path: `^${program}/[^/]+\\.ts$`, pathNot: `^${program}/config\\.ts$` },
  };
  return [...listed, unlisted, root];
}

module.exports = {
  forbidden: [
    {
      name: 'no-cycle',
      comment:
        'between rooms the rules below leave no cycle of any kind; inside a room two files may name each other in types only',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
    {
      name: 'api-imports-nothing-of-ours',
      severity: 'error',
      from: { path: '^api/' },
      to: { path: '^(runtime|agent|controller|cli|scripts|test)/' },
    },
    {
      name: 'runtime-imports-api-only',
      severity: 'error',
      from: { path: '^runtime/' },
      to: { path: '^(agent|controller|cli|scripts|test)/' },
    },
    {
      name: 'programs-apart',
      comment: 'agent, controller and cli never import each other',
      severity: 'error',
      from: { path: '^(agent|controller|cli)/' },
      to: { path: '^(agent|controller|cli)/', pathNot: '^$1/' },
    },
    {
      name: 'product-not-from-tests',
      severity: 'error',
      from: { path: '^(agent|controller|cli)/' },
      to: { path: '^(test|scripts)/' },
    },
    {
      name: 'pure-rooms-do-no-io',
      severity: 'error',
      from: { path: PURE },
      to: {
        path: '^(node:)?(fs|fs/promises|net|tls|http|http2|https|dgram|dns|child_process|os|process|worker_threads|sqlite)$',
      },
    },
    { name: 'pure-rooms-not-runtime', severity: 'error', from: { path: PURE }, to: { path: '^runtime/' } },
    {
      name: 'only-node-ts-imports-libp2p',
      comment: 'DESIGN 6: the gossip library stays behind one file',
      severity: 'error',
      from: { path: '^agent/', pathNot: '^agent/gossip/node\\.ts$' },
      to: { path: '^node_modules/(@chainsafe/libp2p-gossipsub|libp2p)/' },
    },
    {
      name: 'no-dev-dependency-in-product',
      severity: 'error',
      from: { path: '^(api|runtime|agent|controller|cli)/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['type-only'] },
    },
    ...siblings('agent', AGENT),
    ...siblings('controller', CONTROLLER),
  ],
  options: {
    // TypeScript 7 has no API that dependency-cruiser knows; swc parses the same syntax and keeps type-only imports.
    parser: 'swc',
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(build|test/golden)/' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
      extensions: ['.ts', '.js'],
    },
  },
};

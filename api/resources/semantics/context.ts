/** What semantic checks may know of the mesh. */
export interface SemanticContext {
  /** Without it MeshConfig's trust domain is checked for its form only. */
  readonly trustDomain?: string;
  /** CIDRs of virtual addresses besides 240.240.0.0/16. */
  readonly vipRanges?: readonly string[];
  /** ms since the epoch, for warnings of certificates that end soon; without it there are none. */
  readonly now?: number;
}

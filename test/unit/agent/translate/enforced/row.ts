import type { MeshObject } from '../../../../../api/resources/object.ts';

/** What sets the enforced fields of one kind, one or few at a time. */
export interface Row {
  readonly kind: string;
  readonly base: object;
  /** Each is merged over the base; the leaves that it adds are the fields under test. */
  readonly changes: readonly object[];
  /** Changes that put the object out of effect for this client: that they do is all that can be seen of them. */
  readonly exclusions?: readonly object[];
  /** Objects beside it. */
  readonly beside?: readonly MeshObject[];
  readonly name?: string;
}

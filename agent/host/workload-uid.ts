/** systemd's DynamicUser range: such a uid is handed to another unit later, which would inherit the identity. */
const DYNAMIC_UIDS = { first: 61184, last: 65519 };

/** Why no workload runs as this uid, nor a command of one; undefined: it may. `own`: the proxy's and the agent's. Words that follow the user's name. */
export function workloadUidFault(uid: number, own: ReadonlySet<number>): string | undefined {
  if (uid >= DYNAMIC_UIDS.first && uid <= DYNAMIC_UIDS.last)
    return "is from systemd's dynamic range: give the unit a static User=";
  return uid === 0 || own.has(uid) ? 'cannot run a workload' : undefined;
}

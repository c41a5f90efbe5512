/**
 * The units that run exec probes: for each command that agent.yaml lists, a socket on which only the agent's user may ask, and a service that
 * runs that command, as the workload's user, and says how it ended. In: commands and uids. Out: a plan of files. What the agent, or an operator
 * by a WorkloadGroup, says must never become a part of them: the list is root's, and the command a fixed line that no shell reads.
 */
import { basename, join } from 'node:path';
import { MAX_EXEC_SECONDS } from '../../api/resources/semantics/workload.ts';
import { PROBE_UNIT_FILE, probeSocket, probeUnit } from '../host/probe-unit.ts';
import { type FilePlan, FOLDER, look, MARKER, unwanted } from './own-files.ts';

/** A command of agent.yaml's execProbes, and whom it runs as. */
export interface ListedCommand {
  /** `NAMESPACE/NAME`, for the unit's description. */
  readonly group: string;
  readonly uid: number;
  readonly command: readonly string[];
}

/** `sockets`: units to be started where they are not running; of these the ones whose file changes; those that go. */
export interface ProbeUnitPlan extends FilePlan {
  readonly sockets: {
    readonly run: readonly string[];
    readonly changed: readonly string[];
    readonly stop: readonly string[];
  };
}

/** What is to be changed so that these commands, and no others, can be asked for, by `agentUser` alone. Reads only. `folder` is for tests. */
export async function planProbeUnits(
  commands: readonly ListedCommand[],
  agentUser: string,
  folder = FOLDER,
): Promise<ProbeUnitPlan> {
  const write: { path: string; text: string }[] = [];
  const problems: string[] = [];
  const [run, changed, wanted] = [new Set<string>(), new Set<string>(), new Set<string>()];
  for (const listed of commands) {
    const unit = probeUnit(listed.uid, listed.command);
    const [socket, service] = [join(folder, `${unit}.socket`), join(folder, `${unit}@.service`)];
    if (wanted.has(socket)) continue;
    const files = [
      { path: socket, text: socketText(unit, listed, agentUser), there: await look(socket) },
      { path: service, text: serviceText(listed), there: await look(service) },
    ];
    const foreign = files.find(({ there }) => there === 'foreign');
    if (foreign !== undefined) {
      problems.push(`${listed.group}: an exec probe cannot be run: ${foreign.path} is not ours`);
      continue;
    }
    run.add(`${unit}.socket`);
    for (const { path, text, there } of files) {
      wanted.add(path);
      if (there === text) continue;
      write.push({ path, text });
      if (path === socket && there !== undefined) changed.add(`${unit}.socket`);
    }
  }
  const remove = await unwanted(folder, wanted, (entry) =>
    PROBE_UNIT_FILE.test(entry) ? join(folder, entry) : undefined,
  );
  const stop = remove.map((path) => basename(path)).filter((name) => name.endsWith('.socket'));
  return { write, remove, problems, sockets: { run: [...run], changed: [...changed], stop } };
}

const head = (group: string) =>
  `${MARKER}mesh-agent wrote this for execProbes of ${group} in agent.yaml and takes it away again; changes are lost
[Unit]
Description=Hostmesh exec probe of ${group}
# being started and stopped often is no fault of theirs
StartLimitIntervalSec=0
`;

/**
 * PartOf=: a mesh that was stopped leaves nothing that listens. Two connections: an agent that was started anew does not wait for what the one before
 * asked. An agent asks once a second at most: a socket that is asked more often fails, until mesh-order.service starts it again.
 */
function socketText(unit: string, { group }: ListedCommand, agentUser: string): string {
  return `${head(group)}PartOf=mesh-agent.service

[Socket]
ListenStream=${probeSocket(unit)}
SocketUser=${agentUser}
SocketMode=0600
Accept=yes
MaxConnections=2
TriggerLimitIntervalSec=10s
TriggerLimitBurst=30
RemoveOnStop=yes
`;
}

/**
 * Runs as the workload's user: takes the seconds that the command may run, one line, from the connection, lets go of the connection, becomes
 * timeout(1), which becomes the command's parent. The command's words are arguments of the shell, no text of its program.
 */
const RUN = 'read -r s; case $s in ""|*[!0-9]*) exit 125;; esac; exec /usr/bin/timeout -s KILL "$s" "$@" </dev/null';
/** What systemd knows of the end: the command itself has no descriptor that leads here. */
const SAY = 'echo "$SERVICE_RESULT $EXIT_CODE $EXIT_STATUS" >&0';

/** The `-` keeps a check that failed from being a unit that failed; no message below `warning` is kept, or each probe were lines of the journal. */
function serviceText({ group, uid, command }: ListedCommand): string {
  const words = ['-c', RUN, 'mesh-probe', ...command].map(quote).join(' ');
  return `${head(group)}CollectMode=inactive-or-failed

[Service]
User=${uid}
ExecStart=-/bin/sh ${words}
ExecStopPost=-/bin/sh ${['-c', SAY].map(quote).join(' ')}
StandardInput=socket
StandardOutput=null
StandardError=null
LogLevelMax=warning
Slice=system.slice
RuntimeMaxSec=${MAX_EXEC_SECONDS + 5}
# whatever a command leaves behind ends with it
KillSignal=SIGKILL
TimeoutStopSec=5
TasksMax=100
MemoryMax=512M
LimitCORE=0
IgnoreSIGPIPE=no
# the workload's own unit may be shut in more closely: what a command may do is not much more than look
ProtectSystem=strict
# the one place that stays writable
Environment=TMPDIR=/dev/shm
NoNewPrivileges=yes
CapabilityBoundingSet=
RestrictSUIDSGID=yes
RestrictRealtime=yes
RestrictNamespaces=yes
LockPersonality=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
`;
}

/**
 * One word of a command line as systemd reads it back: in double quotes, its escapes, specifiers and variables meant as they stand
 * (systemd.service(5), "Command lines"; systemd.unit(5), "Specifiers"). The word has no control characters.
 */
export function quote(word: string): string {
  return `"${word.replace(/[\\"]/g, '\\$&').replace(/[%$]/g, '$&$&')}"`;
}

import { open } from 'node:fs/promises';

/** The first 4 KiB of a file of /proc, where the fields that we ask for stand; empty when it is gone or not ours to read. */
export async function procHead(path: string): Promise<string> {
  const file = await open(path, 'r').catch(() => undefined);
  if (file === undefined) return '';
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
    return buffer.toString('latin1', 0, bytesRead);
  } catch {
    return '';
  } finally {
    await file.close();
  }
}

/** Effective uid of a process. From status, not from the owner of /proc/PID: that is root for a process that is not dumpable. */
export async function effectiveUid(procPath: string, pid: string): Promise<number | undefined> {
  const match = /^Uid:\s+\d+\s+(\d+)/m.exec(await procHead(`${procPath}/${pid}/status`));
  return match === null ? undefined : Number(match[1]);
}

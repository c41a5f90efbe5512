// systemd-notify 1.0.0 ships no types.
declare module 'systemd-notify' {
  export default function notify(options: {
    ready?: boolean;
    status?: string;
    pid?: number;
    booted?: boolean;
  }): Promise<unknown>;
}

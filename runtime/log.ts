import winston from 'winston';

/** Structured logger: constant message, data in fields (docs/logging.md lists field names). Never keys, tokens or whole bodies. */
export interface Logger {
  child(room: string): Logger;
  error(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
  info(message: string, fields?: Record<string, unknown>): void;
  debug(message: string, fields?: Record<string, unknown>): void;
}

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';

/** The root logger of a process: JSON lines where stderr is no terminal (systemd, files), readable text on one. `setLevel` acts at once. */
export function createLogger(options: { program: string; level?: LogLevel; format?: 'json' | 'text' }): Logger & {
  setLevel(level: LogLevel): void;
} {
  const text = (options.format ?? (process.stderr.isTTY ? 'text' : 'json')) === 'text';
  const logger = winston.createLogger({
    level: options.level ?? 'info',
    defaultMeta: { program: options.program },
    format: text
      ? winston.format.combine(winston.format.timestamp({ format: 'HH:mm:ss.SSS' }), winston.format.printf(textLine))
      : winston.format.combine(winston.format.timestamp(), winston.format.json()),
    transports: [new winston.transports.Console({ stderrLevels: ['error', 'warn', 'info', 'debug'] })],
  });
  const wrap = (inner: winston.Logger): Logger => ({
    child: (room) => wrap(inner.child({ room })),
    error: (message, fields) => void inner.error(message, plain(fields)),
    warn: (message, fields) => void inner.warn(message, plain(fields)),
    info: (message, fields) => void inner.info(message, plain(fields)),
    debug: (message, fields) => void inner.debug(message, plain(fields)),
  });
  return {
    ...wrap(logger),
    setLevel: (level) => {
      logger.level = level;
    },
  };
}

/** A logger that drops everything: for tests and pure tools. */
export const silentLogger: Logger = {
  child: () => silentLogger,
  error: () => {},
  warn: () => {},
  info: () => {},
  debug: () => {},
};

/** Winston merges a field called `message` into the text and prints Error objects as `{}`: give both a plain form. */
function plain(fields: Record<string, unknown> = {}): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields)) {
    const name = key === 'message' || key === 'level' ? `field_${key}` : key;
    out[name] = value instanceof Error ? { error: value.message, code: (value as { code?: unknown }).code } : value;
  }
  return out;
}

/** For a terminal: one line, and nothing that a terminal obeys, since fields hold words of hosts and operators. */
function textLine(info: winston.Logform.TransformableInfo): string {
  const { timestamp, level, message, room, program, ...fields } = info;
  const rest = Object.entries(fields).map(([k, v]) => `${k}=${typeof v === 'string' ? v : JSON.stringify(v)}`);
  return [timestamp, String(level).toUpperCase().padEnd(5), `${String(room ?? program)}:`, message, ...rest]
    .join(' ')
    .replace(UNSAFE, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is escaped
const UNSAFE = /[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

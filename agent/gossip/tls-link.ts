/**
 * TLS 1.3 between two hosts of the mesh, as a libp2p connection encrypter. In: the own host SVID, who may be linked. Out: a decrypted
 * stream and the peer's host id, or an error before any byte of gossip. Must never: take the peer's word for who it is, on either side.
 */
import { constants, type KeyObject, X509Certificate } from 'node:crypto';
import { Duplex } from 'node:stream';
import { connect, createSecureContext, type SecureContext, TLSSocket } from 'node:tls';
import type {
  ConnectionEncrypter,
  MessageStream,
  PeerId,
  SecureConnectionOptions,
  SecuredConnection,
} from '@libp2p/interface';
import { AbstractMessageStream, type MessageStreamInit, type SendResult } from '@libp2p/utils';
import { MeshError } from '../../api/errors.ts';
import type { Signer } from './trust.ts';

export const LINK_PROTOCOL = '/hostmesh/tls/1';
const ALPN = 'hostmesh-gossip/1';
const HANDSHAKE_MS = 5000;

export interface TlsLinkDeps {
  identity(): { readonly chainPem: string; readonly privateKey: KeyObject };
  /** Judges the peer's leaf (DER): its host, or an error that says why it is refused. */
  admit(leaf: Uint8Array): Signer;
  peerIdOf(host: string): PeerId;
  onPeer(peer: Signer, leaf: Uint8Array): void;
  onRefused(error: unknown): void;
  /** Bytes on the wire, TLS included. */
  onBytes?(direction: 'sent' | 'received', bytes: number): void;
}

export function createTlsLink(deps: TlsLinkDeps): ConnectionEncrypter {
  let contextFor = '';
  let context: SecureContext | undefined;
  /** The SVID is renewed while the agent runs: new handshakes use the new one. */
  const secureContext = (): SecureContext => {
    const { chainPem, privateKey } = deps.identity();
    if (context === undefined || contextFor !== chainPem) {
      context = createSecureContext({
        cert: chainPem,
        key: privateKey.export({ format: 'pem', type: 'pkcs8' }),
        minVersion: 'TLSv1.3',
        secureOptions: constants.SSL_OP_NO_TICKET,
      });
      contextFor = chainPem;
    }
    return context;
  };
  const wrap = (raw: MessageStream, isServer: boolean): TLSSocket => {
    // Node checks a chain against a store and, on a raw server socket, ignores the result: `admit` below is the check.
    const common = { secureContext: secureContext(), rejectUnauthorized: false, ALPNProtocols: [ALPN] };
    const duplex = duplexOf(raw, deps.onBytes);
    return isServer
      ? new TLSSocket(duplex as never, { ...common, isServer: true, requestCert: true })
      : connect({ ...common, socket: duplex, minVersion: 'TLSv1.3' });
  };
  const secure = async (
    raw: MessageStream,
    isServer: boolean,
    options: SecureConnectionOptions = {},
  ): Promise<SecuredConnection> => {
    let socket: TLSSocket | undefined;
    try {
      socket = wrap(raw, isServer);
      await handshake(socket, raw, isServer, options.signal);
      const leaf = socket.getPeerX509Certificate()?.raw;
      if (leaf === undefined) throw new MeshError('LINK_REFUSED', 'the peer presents no certificate');
      if (socket.getProtocol() !== 'TLSv1.3' || socket.alpnProtocol !== ALPN) {
        throw new MeshError(
          'LINK_REFUSED',
          `the peer speaks ${socket.getProtocol()} with protocol ${socket.alpnProtocol}`,
        );
      }
      const peer = deps.admit(leaf);
      const remotePeer = deps.peerIdOf(peer.host);
      if (options.remotePeer !== undefined && !options.remotePeer.equals(remotePeer)) {
        throw new MeshError('LINK_WRONG_PEER', `dialled another host and met ${peer.host}`);
      }
      const connection = new TlsStream(socket, { log: raw.log.newScope('tls'), direction: raw.direction });
      deps.onPeer(peer, leaf);
      return { connection, remotePeer };
    } catch (error) {
      socket?.destroy();
      raw.abort(error as Error);
      deps.onRefused(error);
      throw error;
    }
  };
  return {
    protocol: LINK_PROTOCOL,
    secureInbound: (raw, options) => secure(raw, true, options),
    secureOutbound: (raw, options) => secure(raw, false, options),
  };
}

/** Resolves when both sides have proved possession of their certificate's key (RFC 8446 4.4.3). */
function handshake(
  socket: TLSSocket,
  raw: MessageStream,
  isServer: boolean,
  signal: AbortSignal | undefined,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => finish(new MeshError('LINK_TIMEOUT', 'the TLS handshake took too long')),
      HANDSHAKE_MS,
    );
    const onAbort = () => finish(new MeshError('LINK_TIMEOUT', 'the connection was given up'));
    const onClose = () => finish(new MeshError('LINK_REFUSED', 'the connection closed during the TLS handshake'));
    const finish = (error?: Error) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      raw.removeEventListener('close', onClose);
      socket.off('error', finish);
      socket.on('error', () => {});
      if (error === undefined) resolve();
      else reject(error);
    };
    socket.on('error', finish);
    raw.addEventListener('close', onClose);
    if (raw.status !== 'open') onClose();
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.once(isServer ? 'secure' : 'secureConnect', () => finish());
  });
}

/** The encrypted side: bytes of the libp2p connection as a node stream for TLSSocket, with back-pressure both ways. */
export function duplexOf(raw: MessageStream, onBytes: NonNullable<TlsLinkDeps['onBytes']> = () => {}): Duplex {
  const duplex = new Duplex({
    read() {
      if (raw.status === 'open') raw.resume();
    },
    write(chunk: Uint8Array, _encoding, done) {
      try {
        onBytes('sent', chunk.byteLength);
        if (raw.send(chunk)) done();
        else raw.onDrain().then(() => done(), done);
      } catch (error) {
        done(error as Error);
      }
    },
    final(done) {
      raw.close().then(
        () => done(),
        () => done(),
      );
    },
    destroy(error, done) {
      if (raw.status === 'open') raw.abort(error ?? new MeshError('LINK_CLOSED', 'the TLS link was closed'));
      done(null);
    },
  });
  raw.addEventListener('message', (event) => {
    for (const part of event.data instanceof Uint8Array ? [event.data] : event.data) {
      onBytes('received', part.byteLength);
      if (!duplex.push(part) && raw.status === 'open') raw.pause();
    }
  });
  raw.addEventListener('close', () => {
    if (!duplex.destroyed) {
      duplex.push(null);
      duplex.destroy();
    }
  });
  raw.addEventListener('remoteCloseWrite', () => {
    if (!duplex.destroyed) duplex.push(null);
  });
  return duplex;
}

/** The decrypted side, as libp2p wants it. */
class TlsStream extends AbstractMessageStream {
  readonly socket: TLSSocket;

  constructor(socket: TLSSocket, init: MessageStreamInit) {
    super(init);
    this.socket = socket;
    socket.on('data', (bytes: Uint8Array) => this.onData(bytes));
    socket.on('error', (error: Error) => this.abort(error));
    socket.once('end', () => this.onTransportClosed());
    socket.once('close', () => this.onTransportClosed());
    socket.on('drain', () => this.safeDispatchEvent('drain'));
  }

  override sendData(data: Parameters<AbstractMessageStream['sendData']>[0]): SendResult {
    let sentBytes = 0;
    for (const part of data) {
      sentBytes += part.byteLength;
      if (!this.socket.write(part)) return { sentBytes, canSendMore: false };
    }
    return { sentBytes, canSendMore: true };
  }

  override sendReset(): void {
    this.socket.destroy();
  }

  override sendPause(): void {
    this.socket.pause();
  }

  override sendResume(): void {
    this.socket.resume();
  }

  override async close(): Promise<void> {
    if (this.status !== 'open') return;
    this.status = 'closing';
    this.writeStatus = 'closing';
    await new Promise<void>((resolve) => {
      this.socket.once('close', resolve);
      this.socket.destroySoon();
    });
    this.onTransportClosed();
  }
}

/** A leaf of a PEM chain in DER: what is presented and what records carry. */
export function leafOf(chainPem: string): Uint8Array {
  return new X509Certificate(chainPem).raw;
}

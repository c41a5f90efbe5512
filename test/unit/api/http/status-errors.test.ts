import t from 'tap';
import * as status from '../../../../api/http/status-errors.ts';

const subject = { group: 'networking.istio.io', plural: 'virtualservices', kind: 'VirtualService', name: 'reviews' };

t.test('each builder answers with the code of its reason', async (t) => {
  const built: [status.Status, number, RegExp][] = [
    [status.notFound(subject), 404, /^virtualservices.networking.istio.io "reviews" not found$/],
    [status.unknownPath(), 404, /could not find the requested resource/],
    [status.alreadyExists(subject), 409, /already exists/],
    [status.conflict(subject), 409, /Operation cannot be fulfilled on virtualservices.networking.istio.io "reviews"/],
    [status.badRequest('x'), 400, /^x$/],
    [status.forbidden(subject, 'no'), 403, /is forbidden: no$/],
    [status.unauthorized(), 401, /Unauthorized/],
    [status.tooLarge(5), 413, /larger than 5 bytes/],
    [status.unsupportedMediaType('a/b', ['c/d']), 415, /c\/d/],
    [status.notAcceptable(['c/d']), 406, /c\/d/],
    [status.methodNotAllowed(), 405, /method/],
    [status.gone(), 410, /too old/],
    [status.tooManyRequests(3), 429, /too many/],
    [status.internalError(), 500, /internal/],
    [status.serviceUnavailable('x'), 503, /x/],
  ];
  for (const [answer, code, message] of built) {
    t.match(answer, { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, message });
    t.equal(answer.code, status.STATUS_CODES[answer.reason as status.StatusReason], String(answer.reason));
  }
  t.equal(
    new Set(built.map(([answer]) => answer.reason)).size,
    Object.keys(status.STATUS_CODES).length - 2,
    'all but Invalid and Timeout, tested elsewhere',
  );
});

t.test('violations become causes, with a place in the transaction', async (t) => {
  const violations = [
    { path: 'spec.hosts', message: 'is required', reason: 'FieldValueRequired' },
    { path: 'spec.hosst', message: 'unknown field "spec.hosst"', reason: 'UnknownField' },
  ] as const;
  const answer = status.invalid(subject, violations, 'objects[3].');
  t.match(answer, {
    code: 422,
    reason: 'Invalid',
    message: /^VirtualService.networking.istio.io "reviews" is invalid: \[spec.hosts: is required, /,
    details: {
      name: 'reviews',
      kind: 'VirtualService',
      causes: [
        { reason: 'FieldValueRequired', field: 'objects[3].spec.hosts' },
        { reason: 'FieldValueForbidden', field: 'objects[3].spec.hosst' },
      ],
    },
  });
  t.match(status.strictDecoding(violations.slice(1)), {
    code: 400,
    message: 'strict decoding error: unknown field "spec.hosst"',
  });
  t.match(status.success(subject), { status: 'Success', code: 200, details: { name: 'reviews' } });
});

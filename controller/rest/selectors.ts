import { badRequest } from '../../api/http/status-errors.ts';
import type { MeshObject } from '../../api/resources/object.ts';
import { refuse } from './errors.ts';

/** Does the object belong to the answer? */
export type Matcher = (object: MeshObject) => boolean;

const MAX_SELECTOR = 4096;

/** labelSelector and fieldSelector of a list, watch or deletecollection. Undefined when neither is given. Throws 400. */
export function selectorOf(query: URLSearchParams): Matcher | undefined {
  const labels = query.get('labelSelector') ?? '';
  const fields = query.get('fieldSelector') ?? '';
  if (labels.length > MAX_SELECTOR || fields.length > MAX_SELECTOR) refuse(badRequest('the selector is too long'));
  const matchers = [...labelMatchers(labels), ...fieldMatchers(fields)];
  return matchers.length === 0 ? undefined : (object) => matchers.every((matches) => matches(object));
}

const KEY = '[A-Za-z0-9][-A-Za-z0-9_./]*';
const VALUE = '[-A-Za-z0-9_.]*';
const SET = new RegExp(String.raw`^(${KEY})\s+(in|notin)\s+\(([^()]*)\)$`);
const EQUAL = new RegExp(String.raw`^(${KEY})\s*(=|==|!=)\s*(${VALUE})$`);
const EXISTS = new RegExp(String.raw`^(!?)\s*(${KEY})$`);

/** Kubernetes' label selectors: `a=b,c!=d,e in (f,g),h notin (i),j,!k`. A comma separates where it stands outside brackets. */
function labelMatchers(text: string): Matcher[] {
  const terms = text
    .split(/,(?![^()]*\))/)
    .map((term) => term.trim())
    .filter((term) => term !== '');
  return terms.map((term) => {
    const set = SET.exec(term);
    if (set !== null) {
      const values = (set[3] as string).split(',').map((value) => value.trim());
      return labelTest(set[1] as string, (value) =>
        set[2] === 'in'
          ? value !== undefined && values.includes(value)
          : value === undefined || !values.includes(value),
      );
    }
    const equal = EQUAL.exec(term);
    if (equal !== null)
      return labelTest(equal[1] as string, (value) => (equal[2] === '!=' ? value !== equal[3] : value === equal[3]));
    const exists = EXISTS.exec(term);
    if (exists !== null) return labelTest(exists[2] as string, (value) => (value !== undefined) === (exists[1] === ''));
    return refuse(badRequest(`labelSelector: cannot read ${JSON.stringify(term.slice(0, 100))}`));
  });
}

function labelTest(key: string, test: (value: string | undefined) => boolean): Matcher {
  return (object) => {
    const labels = object.metadata.labels ?? {};
    return test(Object.hasOwn(labels, key) ? labels[key] : undefined);
  };
}

/** `metadata.name` and `metadata.namespace`, as for custom resources; `=`, `==`, `!=`. */
function fieldMatchers(text: string): Matcher[] {
  const terms = text.split(',').filter((term) => term.trim() !== '');
  return terms.map((term) => {
    const [, field, operator, value] = /^\s*([^=!]+?)\s*(=|==|!=)\s*(.*?)\s*$/.exec(term) ?? [];
    if (field !== 'metadata.name' && field !== 'metadata.namespace')
      refuse(
        badRequest(
          `fieldSelector: only metadata.name and metadata.namespace, not ${JSON.stringify(term.slice(0, 100))}`,
        ),
      );
    const part = field === 'metadata.name' ? 'name' : 'namespace';
    return (object) => ((object.metadata[part] ?? '') === value) === (operator !== '!=');
  });
}

import { RE2JS } from 're2js';
import { at, type Body, maybe, numberOf, textOf } from './envoy-json.ts';

/** Whether something holds; undefined: it cannot be known beforehand. */
export type Truth = boolean | undefined;

/** False if one is false, else undefined if one is unknown. */
export function all(truths: Iterable<Truth>): Truth {
  let result: Truth = true;
  for (const truth of truths) {
    if (truth === false) return false;
    if (truth === undefined) result = undefined;
  }
  return result;
}

/** True if one is true, else undefined if one is unknown. */
export function some(truths: Iterable<Truth>): Truth {
  let result: Truth = false;
  for (const truth of truths) {
    if (truth === true) return true;
    if (truth === undefined) result = undefined;
  }
  return result;
}

export function not(truth: Truth): Truth {
  return truth === undefined ? undefined : !truth;
}

/** envoy.type.matcher.v3.StringMatcher. */
export function stringMatches(matcher: Body, value: string): Truth {
  const fold = matcher.ignore_case === true;
  const text = fold ? value.toLowerCase() : value;
  const want = (key: string) => (fold ? textOf(matcher, key).toLowerCase() : textOf(matcher, key));
  if (typeof matcher.exact === 'string') return text === want('exact');
  if (typeof matcher.prefix === 'string') return text.startsWith(want('prefix'));
  if (typeof matcher.suffix === 'string') return text.endsWith(want('suffix'));
  if (typeof matcher.contains === 'string') return text.includes(want('contains'));
  if (maybe(matcher, 'safe_regex') !== undefined)
    return regexMatches(textOf(at(matcher, 'safe_regex'), 'regex'), value);
  return undefined;
}

/** The whole value, by RE2 as Envoy does it. */
export function regexMatches(regex: string, value: string): Truth {
  try {
    return RE2JS.matches(regex, value);
  } catch {
    return undefined;
  }
}

/** envoy.config.route.v3.HeaderMatcher. `value` undefined: the request has no such header. */
export function headerMatches(matcher: Body, value: string | undefined): Truth {
  const invert = (truth: Truth): Truth => (matcher.invert_match === true ? not(truth) : truth);
  if (typeof matcher.present_match === 'boolean') return invert((value !== undefined) === matcher.present_match);
  if (value === undefined) {
    // Envoy: a header that is missing matches nothing, inverted or not, unless it is to be taken as empty.
    if (matcher.treat_missing_header_as_empty !== true) return hasTest(matcher) ? false : invert(false);
    return invert(headerTest(matcher, ''));
  }
  return invert(headerTest(matcher, value));
}

function hasTest(matcher: Body): boolean {
  return [
    'string_match',
    'exact_match',
    'prefix_match',
    'suffix_match',
    'contains_match',
    'safe_regex_match',
    'range_match',
  ].some((key) => key in matcher);
}

function headerTest(matcher: Body, value: string): Truth {
  const string = maybe(matcher, 'string_match');
  if (string !== undefined) return stringMatches(string, value);
  const range = maybe(matcher, 'range_match');
  if (range !== undefined) {
    const number = /^-?\d+$/.test(value) ? Number(value) : Number.NaN;
    return number >= (numberOf(range, 'start') ?? 0) && number < (numberOf(range, 'end') ?? 0);
  }
  if (typeof matcher.exact_match === 'string') return value === matcher.exact_match;
  if (typeof matcher.prefix_match === 'string') return value.startsWith(matcher.prefix_match);
  if (typeof matcher.suffix_match === 'string') return value.endsWith(matcher.suffix_match);
  if (typeof matcher.contains_match === 'string') return value.includes(matcher.contains_match);
  const regex = maybe(matcher, 'safe_regex_match');
  return regex === undefined ? true : regexMatches(textOf(regex, 'regex'), value);
}

/** The part of an address that `ranges` (envoy.config.core.v3.CidrRange) cover best, in bits; undefined: none does. */
export function longestPrefix(ranges: readonly Body[], address: string): number | undefined {
  const lengths = ranges.filter((range) => inRange(range, address)).map((range) => numberOf(range, 'prefix_len') ?? 0);
  return lengths.length === 0 ? undefined : Math.max(...lengths);
}

export function inRange(range: Body, address: string): boolean {
  const prefix = textOf(range, 'address_prefix');
  if (prefix.includes(':') !== address.includes(':')) return false;
  const length = numberOf(range, 'prefix_len') ?? 0;
  return bitsOf(prefix).slice(0, length) === bitsOf(address).slice(0, length);
}

function bitsOf(address: string): string {
  const parts = address.includes(':') ? groupsOf(address) : address.split('.').map(Number);
  const width = address.includes(':') ? 16 : 8;
  return parts.map((part) => part.toString(2).padStart(width, '0')).join('');
}

function groupsOf(address: string): number[] {
  const mapped = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(address);
  if (mapped !== null) {
    const [, head, a, b, c, d] = mapped;
    const hex = (high: string | undefined, low: string | undefined) => (Number(high) * 256 + Number(low)).toString(16);
    return groupsOf(`${head}${hex(a, b)}:${hex(c, d)}`);
  }
  const [head = '', tail = ''] = address.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === '' ? [] : tail.split(':');
  const zeros = address.includes('::') ? Array<string>(Math.max(0, 8 - left.length - right.length)).fill('0') : [];
  return [...left, ...zeros, ...right].map((group) => Number.parseInt(group, 16));
}

/** How a name (`*.x.y`, exact) fits what a client asked for: the longer the better; undefined: it does not. */
export function nameScore(names: readonly string[], asked: string): number | undefined {
  const scores = names
    .filter((name) => name === asked || (name.startsWith('*.') && asked.endsWith(name.slice(1))))
    .map((name) => (name === asked ? Number.MAX_SAFE_INTEGER : name.length));
  return scores.length === 0 ? undefined : Math.max(...scores);
}

/** A matcher in a few words, for people. */
export function stringWords(matcher: Body): string {
  if (typeof matcher.exact === 'string') return `= ${matcher.exact}`;
  if (typeof matcher.prefix === 'string') return `${matcher.prefix}*`;
  if (typeof matcher.suffix === 'string') return `*${matcher.suffix}`;
  if (typeof matcher.contains === 'string') return `*${matcher.contains}*`;
  const regex = maybe(matcher, 'safe_regex');
  return regex === undefined ? '?' : `~ ${textOf(regex, 'regex')}`;
}

/** All matches of an RE2 expression replaced; `\1` names a group, as Envoy has it. The text itself where the expression is none. */
export function replaceRegex(regex: string, text: string, substitution: string): string {
  try {
    const matcher = RE2JS.compile(regex).matcher(text);
    let made = '';
    let end = 0;
    while (matcher.find()) {
      const groups = (_all: string, digit: string) => matcher.group(Number(digit)) ?? '';
      made += text.slice(end, matcher.start()) + substitution.replace(/\\(\d)/g, groups);
      end = matcher.end();
    }
    return made + text.slice(end);
  } catch {
    return text;
  }
}

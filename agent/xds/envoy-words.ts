const MAX_WORDS = 2048;
const REASON = 'Proto constraint validation failed';

/**
 * Why Envoy refused a resource, in its own words, at most 2,048 characters. Where a field breaks a constraint Envoy tells the whole resource
 * first and the reason after it: then the reason alone. Of what is too long the beginning and the end stay. Seen with Envoy 1.40.
 */
export function envoyWords(message: string): string {
  const at = message.lastIndexOf(REASON);
  const words = at < 0 ? message : message.slice(at);
  if (words.length <= MAX_WORDS) return words;
  const half = MAX_WORDS / 2;
  return `${words.slice(0, half - 5)} ... ${words.slice(-half)}`;
}

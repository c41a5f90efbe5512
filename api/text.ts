const CLASS = String.raw`[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Noncharacter_Code_Point}]`;
const ANY = new RegExp(CLASS, 'u');
const EACH = new RegExp(CLASS, 'gu');

/**
 * Whether a text holds what a person does not see or sees elsewhere than it stands: controls, line breaks, format characters (those that turn
 * the direction of text, zero width, tags: Unicode's Cf), half surrogates, noncharacters.
 */
export function hasHidden(text: string): boolean {
  return ANY.test(text);
}

/** The text with each such character as `\u{202e}`, so that it is read as it stands. */
export function showHidden(text: string): string {
  return text.replace(EACH, (char) => `\\u{${char.codePointAt(0)?.toString(16).padStart(4, '0')}}`);
}

/**
 * One integer that two programs of different versions compare (DESIGN 3.7). A host record carries the capability of its agent; a
 * generation carries the least capability that its objects need.
 *
 * History:
 *   1  2026-11-25  first release.
 */
export const CAPABILITY = 1;

/** The product's version, shown by --version and in records. Equal to package.json (a test compares them). */
export const VERSION = '0.1.0';

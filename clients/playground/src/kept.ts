/** Short texts that the browser keeps for the page. Without its leave, as where site data is blocked, they last until the page closes. */

/** The text under this name; undefined if there is none. */
export function readKept(kind: "localStorage" | "sessionStorage", name: string): string | undefined {
  try {
    return window[kind].getItem(name) ?? undefined;
  } catch {
    return undefined; // the browser lets the page keep nothing
  }
}

/** Keep the text under this name; an empty one is removed. */
export function writeKept(kind: "localStorage" | "sessionStorage", name: string, text: string): void {
  try {
    if (text) window[kind].setItem(name, text);
    else window[kind].removeItem(name);
  } catch {
    // the browser lets the page keep nothing, or no more
  }
}

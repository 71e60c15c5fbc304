/**
 * What a person does with the page, in headless Chromium against a real server: `node cases.mjs CASE ADDRESS BROWSER [TOKEN]`.
 *
 * Ends with an error if something is not as it should be; so does any error in the browser's console, and any request to
 * another host.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer, request as call } from "node:http";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

/** @typedef {import("playwright-core").Page} Page */

const [name = "", address = "", executablePath = "", token = ""] = process.argv.slice(2);
const PATIENCE_MS = Number(process.env["PATIENCE_MS"] ?? 120_000); // ends what hangs; a busy machine takes long
/** A circle, white on black. */
const MAP = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAAAAABWESUoAAAAQklEQVR42mNgGA6AEYX3H4sYsvR/VBpDHisTh+B/AvJYVOAUYCLSt7jtJGjCYFBAtXAgHNSEI4twdONIMCQluaELAJ4UG/c0nVZxAAAAAElFTkSuQmCC",
  "base64",
);

/** @type {Record<string, (page: Page) => Promise<void>>} */
const CASES = {
  async image(page) {
    await write(page, "slow", "a lighthouse");
    await page.getByLabel("Plan").getByText("free").waitFor();
    await page.getByRole("button", { name: "Generate" }).click();
    await page.getByAltText("Preview of: a lighthouse").waitFor();
    const image = page.getByRole("img", { name: "a lighthouse", exact: true });
    await image.waitFor();
    assert.equal(await image.evaluate((/** @type {HTMLImageElement} */ element) => element.naturalWidth), 512);
    await page.getByText("Receipt").click();
    await page.getByRole("row", { name: /^width 512 / }).waitFor();
    await page.getByRole("button", { name: "Again with another seed" }).click();
    await tiles(page, 2);
    await page.getByRole("button", { name: "Use as init image" }).click();
    await page.getByRole("button", { name: "Remove init image" }).waitFor();
    await page.getByLabel("Strength", { exact: true }).fill("0.5");
    await page.getByRole("button", { name: "Generate" }).click();
    await tiles(page, 3);
    await page.reload(); // the gallery is kept
    await tiles(page, 3);
    const seeds = await page.locator(".tile").evaluateAll((all) => all.map((each) => each.getAttribute("aria-label")));
    assert.equal(new Set(seeds).size, 3);
    await page.getByRole("button", { name: seeds[0] ?? "" }).click();
    await page.getByRole("button", { name: "Delete" }).click();
    await tiles(page, 2);
  },

  async cancel(page) {
    await write(page, "hanging", "a storm");
    await page.getByLabel("Prompt", { exact: true }).press("Control+Enter");
    await page.getByRole("status").filter({ hasText: "Draw …" }).waitFor();
    await page.getByRole("button", { name: "Cancel" }).click();
    await page
      .getByRole("status")
      .filter({ hasText: /^Cancelled/ })
      .waitFor();
    await tiles(page, 0);
  },

  async queue(page) {
    await write(page, "hanging", "one");
    await page.getByRole("button", { name: "Generate" }).click();
    await page.getByRole("status").filter({ hasText: "Draw …" }).waitFor();
    await page.getByRole("button", { name: "Generate" }).click();
    await page.getByRole("status").filter({ hasText: "Next in the queue" }).waitFor();
    for (let left = 2; left > 0; left--) {
      await page
        .locator(".gallery .tile")
        .nth(left - 1)
        .waitFor();
      await page.getByRole("button", { name: "Cancel" }).click();
      await page
        .locator(".gallery .tile")
        .nth(left - 1)
        .waitFor({ state: "detached" });
      await page
        .getByRole("status")
        .filter({ hasText: /^Cancelled/ }) // also while the other one is shown
        .waitFor();
    }
  },

  async error(page) {
    await page.getByRole("button", { name: "Generate" }).click();
    assert.equal(await problem(page, "prompt"), "Say what to make.");
    await write(page, "sketch", "a wall");
    await page.getByRole("radio", { name: "Custom" }).check();
    const width = page.getByLabel("Width", { exact: true });
    await width.fill("8");
    await page.getByLabel("Height", { exact: true }).fill("64");
    await page.getByRole("button", { name: "Generate" }).click();
    assert.match(await problem(page, "width"), /16/);
    await page.waitForFunction(() => document.activeElement?.getAttribute("aria-invalid") === "true");
    assert.ok(await width.evaluate((input) => input === document.activeElement));
    await width.fill("5000"); // the plan says so before it is sent
    await page.locator("[data-path=width] .problem", { hasText: "16 to 4096" }).waitFor();
  },

  /** Paths of the contract are found at the fields, and files that are no images are refused in words. */
  async fields(page) {
    await page.getByLabel("Engine").selectOption("tiny");
    await page.getByLabel(/^Prompt$/).fill("<img src=x onerror=alert(1)>");
    const negative = page.getByLabel("Negative prompt");
    await negative.evaluate((field) => field.removeAttribute("maxlength"));
    await negative.fill("a".repeat(10_000));
    await page.getByRole("button", { name: "Generate" }).click();
    assert.match(await problem(page, "negativePrompt"), /at most/);
    const html = { name: '"><script>alert(1)</script>.png', mimeType: "image/png", buffer: Buffer.from("<script>alert(1)</script>") };
    await page.getByLabel("Init image", { exact: true }).setInputFiles(html);
    const said = page.locator("[data-path=initImage] [role=status]").filter({ hasText: /is not|damaged|image/ });
    assert.doesNotMatch((await said.textContent()) ?? "", /[{}]/);
  },

  /** An image goes where it was dropped, although others change while it is sent. */
  async meanwhile(page) {
    await write(page, "tiny", "an apple");
    const add = page.getByRole("button", { name: "+ ControlNet" });
    /** @type {(() => void)[]} */
    const waiting = [];
    await page.route("**/UploadArtifact", async (route) => {
      await new Promise((resolve) => waiting.push(() => resolve(undefined)));
      await route.continue();
    });
    for (const name of ["ControlNet image 1", "Init image"]) {
      if (name !== "Init image") await add.click();
      await page.getByLabel(name, { exact: true }).setInputFiles({ name: "map.png", mimeType: "image/png", buffer: MAP });
    }
    const strength = page.locator("[data-path='controls[0].strength'] [type=number]");
    await strength.fill("0.5");
    while (waiting.length < 2) await new Promise((resolve) => setTimeout(resolve, 20));
    for (const go of waiting) go();
    await page.getByRole("button", { name: "Remove controlnet image 1" }).waitFor();
    await page.getByRole("button", { name: "Remove init image" }).waitFor();
    assert.equal(await strength.inputValue(), "0.5");
  },

  /** What one tab makes, another shows, and a browser without space says so. */
  async tabs(page) {
    const other = await page.context().newPage();
    await other.goto(address);
    await other.getByText("Connected").waitFor();
    await write(page, "sketch", "a door");
    await page.getByRole("button", { name: "Generate" }).click();
    await tiles(page, 1);
    await tiles(other, 1);
    await page.getByRole("button", { name: "Delete" }).click();
    await tiles(other, 0);
    await page.evaluate(() => {
      const put = IDBObjectStore.prototype.put;
      IDBObjectStore.prototype.put = function (value) {
        const request = put.call(this, value);
        request.addEventListener("success", () => this.transaction.abort()); // as a browser does that has no space
        return request;
      };
    });
    await page.getByRole("button", { name: "Generate" }).click();
    await page.getByText("It could not be kept in this browser").waitFor();
    await tiles(page, 1);
  },

  /** The browser lets the page keep nothing. */
  async private(page) {
    await page.addInitScript(() => {
      for (const name of ["localStorage", "sessionStorage", "indexedDB"])
        Object.defineProperty(window, name, {
          get() {
            throw new DOMException("access is denied", "SecurityError");
          },
        });
    });
    await page.reload();
    await page.getByRole("button", { name: /^Theme/ }).click();
    await write(page, "sketch", "a door");
    await page.getByRole("button", { name: "Generate" }).click();
    await tiles(page, 1);
    await page.getByText("Nothing is kept in this browser").waitFor();
  },

  /** A proxy shows the page below a path. */
  async prefix(page) {
    const proxy = createServer((request, answer) => {
      const path = request.url?.replace(/^\/tools\/atelier/, "") ?? "";
      if (path === request.url) return void answer.writeHead(404).end();
      const { method, headers } = request;
      const passed = call(new URL(path, address), { method, headers: { ...headers, host: new URL(address).host } }, (from) => {
        answer.writeHead(from.statusCode ?? 502, from.headers);
        from.pipe(answer);
      });
      request.pipe(passed);
    });
    await new Promise((resolve) => proxy.listen(0, "127.0.0.1", () => resolve(undefined)));
    const { port } = /** @type {import("node:net").AddressInfo} */ (proxy.address());
    /** @type {string[]} */
    const missing = [];
    const below = await page.context().newPage();
    below.on("response", (response) => response.status() >= 400 && missing.push(response.url()));
    await below.goto(`http://127.0.0.1:${port}/tools/atelier/`);
    await write(below, "sketch", "a door");
    await below.getByRole("button", { name: "Generate" }).click();
    await tiles(below, 1);
    assert.deepEqual(missing, []);
    await below.close();
    proxy.closeAllConnections();
    proxy.close();
  },

  async control(page) {
    await write(page, "sketch", "an apple");
    assert.equal(await page.getByRole("button", { name: "+ ControlNet" }).count(), 0); // it has none
    await page.getByLabel("Engine").selectOption("tiny");
    await page.getByRole("button", { name: "+ ControlNet" }).click();
    await page
      .getByLabel("ControlNet image 1", { exact: true })
      .setInputFiles({ name: "map.png", mimeType: "image/png", buffer: MAP });
    await page.getByRole("button", { name: "Remove controlnet image 1" }).waitFor();
    await page.getByLabel("Add a LoRA").selectOption("sketch");
    await page.getByRole("button", { name: "Generate" }).click();
    await tiles(page, 1);
  },

  async audio(page) {
    await page.getByRole("radio", { name: "Audio" }).check();
    await write(page, "sketch", "rain");
    await page.getByRole("button", { name: "Generate" }).click();
    await page.locator("canvas[data-bars='160']").waitFor();
    await page.getByRole("button", { name: "Play" }).click();
    await page.waitForFunction(() => (document.querySelector("audio")?.currentTime ?? 0) > 0);
    await page.getByText("/ 0:02.0").waitFor();
  },

  async key(page) {
    await page.getByText("This server wants a key").waitFor();
    await page.getByRole("button", { name: "Key" }).click();
    await page.getByLabel("API key or token").fill(token);
    await page.getByRole("button", { name: "Use it" }).click();
    await page.getByText("Connected").waitFor();
    await write(page, "sketch", "a door");
    await page.getByRole("button", { name: "Generate" }).click();
    await tiles(page, 1);
  },

  async access(page) {
    const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
    await write(page, "tiny", "a pear");
    await page.getByRole("button", { name: "+ ControlNet" }).click();
    await page.getByText("More settings").click();
    await page.getByLabel("Engine").selectOption("sketch");
    await page.getByRole("button", { name: "Generate" }).click();
    await page.getByText("Receipt").click();
    await page.evaluate(axe);
    for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
      for (const width of [1280, 390]) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 844 });
        await page.getByLabel("Engine").selectOption(width === 390 ? "tiny" : "sketch");
        await check(page, `${colorScheme}, ${width}`);
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(overflow <= 0, `${overflow} pixels too wide`);
      }
    }
    await page.getByRole("button", { name: "Key" }).click();
    await check(page, "dialog");
  },
};

/** Choose the engine, and write the prompt.
 * @param {Page} page @param {string} engine @param {string} prompt */
async function write(page, engine, prompt) {
  await page.getByLabel("Engine").selectOption(engine);
  await page.getByLabel(/^Prompt$/).fill(prompt);
}

/** Wait until the gallery has so many outputs, and nothing runs.
 * @param {Page} page @param {number} count */
async function tiles(page, count) {
  await page.waitForFunction((wanted) => {
    const all = [...document.querySelectorAll(".tile")];
    return all.length === wanted && all.every((each) => each.hasAttribute("aria-pressed"));
  }, count);
}

/** What is said to be wrong with a field.
 * @param {Page} page @param {string} path */
async function problem(page, path) {
  const text = page.locator(`[data-path=${path}] .problem`);
  await text.waitFor();
  return (await text.textContent()) ?? "";
}

/** Look for what people with disabilities could not use.
 * @param {Page} page @param {string} state */
async function check(page, state) {
  await page.evaluate(() => Promise.all(document.getAnimations().map((each) => each.finished.catch(() => {}))));
  // @ts-expect-error axe has been put into the page
  const { violations } = await page.evaluate(() => axe.run());
  const found = violations.map(
    (/** @type {any} */ one) => `${one.id}: ${one.nodes.map((/** @type {any} */ node) => node.html)}`,
  );
  assert.deepEqual(found, [], state);
}

const browser = await chromium.launch({ executablePath });
try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 } });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  /** @type {string[]} */
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(`${error}`));
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  page.on(
    "request",
    (request) => request.url().startsWith(address) || request.url().startsWith("blob:") || wrong.push(request.url()),
  );
  await page.goto(address);
  await CASES[name]?.(page);
  // A browser says so of every answer that is an error, such as those that the page shows at its fields.
  assert.deepEqual(
    wrong.filter((text) => !text.startsWith("Failed to load resource")),
    [],
  );
  console.log("as it should be");
} finally {
  await browser.close();
}

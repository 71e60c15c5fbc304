/** Takes the images of the documentation: `node screenshots.mjs ADDRESS BROWSER FOLDER`. */
import { chromium } from "playwright-core";

const [address = "", executablePath = "", folder = ""] = process.argv.slice(2);
const PROMPTS = ["a yellow star", "a green pear", "a purple car", "an orange fish", "a blue cup", "a red apple"];

const browser = await chromium.launch({ executablePath });
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 940 }, colorScheme: "light" });
  await page.goto(address);
  await page.getByLabel("Engine").selectOption("tiny");
  for (const [index, prompt] of PROMPTS.entries()) {
    await page.getByLabel("Prompt", { exact: true }).fill(prompt);
    await page.getByText("More settings").evaluate((summary) => summary.parentElement?.setAttribute("open", ""));
    await page.getByLabel("Seed", { exact: true }).fill(`${index + 1}`);
    await page.getByRole("button", { name: "Generate" }).click();
    await page.locator(".tile[aria-pressed]").nth(index).waitFor();
  }
  await page.getByText("More settings").evaluate((summary) => summary.parentElement?.removeAttribute("open"));
  await page.getByLabel("Plan").waitFor();
  await page.locator(".fields").evaluate((fields) => fields.scrollTo(0, 0));
  await page.screenshot({ path: `${folder}/playground.png` });
  await page.emulateMedia({ colorScheme: "dark" });
  await page.getByText("Receipt").click();
  await page.locator("main").evaluate((main) => main.scrollTo(0, 540));
  await page.screenshot({ path: `${folder}/playground-dark.png` });
  await page.getByRole("radio", { name: "Audio" }).check();
  await page.getByLabel("Engine").selectOption("sketch");
  await page.getByLabel("Prompt", { exact: true }).fill("rain on a tin roof");
  await page.getByRole("button", { name: "Generate" }).click();
  await page.locator("canvas[data-bars='160']").waitFor();
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 390, height: 844 });
  await page.locator(".stage").evaluate((stage) => stage.scrollIntoView());
  await page.getByLabel("Position in seconds").fill("0.8");
  await page.screenshot({ path: `${folder}/playground-phone.png` });
} finally {
  await browser.close();
}

// node portal.js PROGRAM FOLDER: the portal as people meet it, on the demo's
// clouds. Exit 1 on a broken promise. Loopback only.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const require = createRequire(import.meta.url);
const axe = require("axe-core").source;
const [program, folder] = process.argv.slice(2);
const SIZES = { wide: { width: 1280, height: 900 }, tablet: { width: 768, height: 1024 }, phone: { width: 360, height: 740 } };
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const KEY = "code=a-function-key%3D%3D";
const complaints = [];

/** A program that stays up, and what it prints first. */
async function launch(args, env, wanted) {
  const child = spawn(program, args, { env: { PATH: process.env.PATH, ...env }, stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: child.stdout })) {
    const found = wanted(line);
    if (found) return { child, found };
  }
  throw new Error("the program ended early");
}

/** A page that notes whatever it should not do. */
async function person(browser, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  // Chromium's own words for a form that was refused, which must be 409.
  const refused = (m) => m.text().includes("status of 409") && m.location().url.includes("/portal/backfill");
  page.on("console", (m) => m.type() === "error" && !refused(m) && complaints.push(`console: ${m.text()} ${m.location().url}`));
  page.on("pageerror", (e) => complaints.push(`script: ${e}`));
  page.on("request", (r) => {
    if (!/^http:\/\/127\.0\.0\.1:/.test(r.url())) complaints.push(`outside request: ${r.url()}`);
    if (r.headers().referer) complaints.push(`referrer sent to ${new URL(r.url()).pathname}`);
  });
  return page;
}

/** Pictures at three sizes and in the dark, and no fault against WCAG. */
async function inspect(page, name) {
  for (const [size, viewport] of Object.entries(SIZES)) {
    await page.setViewportSize(viewport);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: join(folder, `${name}-${size}-${colorScheme}.png`), fullPage: true });
      const sideways = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (sideways > 0) complaints.push(`${name} at ${size} scrolls sideways by ${sideways}`);
      const { violations } = await page.evaluate(`${axe}; axe.run(document, { runOnly: ${JSON.stringify(RULES)} })`);
      for (const v of violations) complaints.push(`${name} ${size} ${colorScheme}: ${v.impact} ${v.id} ${v.nodes.map((n) => n.target.join(" ")).slice(0, 3)}`);
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize(SIZES.wide);
  console.log(`looked at: ${name}`);
}

const says = (page, text, timeout = 60_000) => page.getByText(text).first().waitFor({ timeout });

/** The person at Entra's own page. */
async function enter(browser, address, code, answer) {
  // Not our page: what it asks for is its own affair.
  const page = await (await browser.newContext()).newPage();
  await page.goto(address);
  await page.getByLabel("Code").fill(code);
  await page.getByRole("button", { name: answer }).click();
  await says(page, "Done.");
  await page.context().close();
}

async function signIn(browser, page) {
  await page.locator("#press-sign-in").click();
  await page.locator("#code").waitFor();
  return { code: (await page.locator("#code").innerText()).trim(), address: await page.locator("#address").getAttribute("href") };
}

/** What the form's own limits allow, as its fields have it. */
async function possible(page) {
  const field = page.locator("#backfill-from");
  const [first, last] = [await field.getAttribute("min"), await field.getAttribute("max")];
  const before = (hours) => new Date(Date.parse(`${last}Z`) - hours * 3_600_000).toISOString().slice(0, 16);
  return { first, last, before };
}

async function start(page, from, to) {
  await page.getByLabel("From (UTC)").fill(from);
  await page.getByLabel("To (UTC), not included").fill(to);
  await page.getByRole("button", { name: "Start the backfill" }).click();
}

/** While nobody is signed in no run works on it, so that its state can be looked at. */
async function backfill(page, url) {
  const { last, before } = await possible(page);
  await start(page, last, before(1));
  await says(page, "is not before the end");
  assert.equal(await page.locator("#backfill-from").inputValue(), last, "what was typed is gone");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "backfill-to", "the wrong field is not in focus");
  await inspect(page, "backfill-refused");
  await start(page, before(20), before(1));
  await says(page, "The backfill was started.");
  await page.goto(url);
  await says(page, "It goes on with the next run");
  await inspect(page, "backfill-under-way");
  await page.getByRole("button", { name: "Cancel this backfill" }).click();
  await says(page, "The backfill was cancelled");
  await inspect(page, "backfill-cancelled");
  await page.goto(url);
}

async function withScript(browser, url) {
  const page = await person(browser);
  await page.goto(url);
  await says(page, /Alerts are (flowing|not)/);
  await inspect(page, "flowing");
  await page.locator("summary").click();
  await inspect(page, "table");
  await page.locator("#press-sign-out").press("Enter");
  await says(page, "Alerts are not flowing: nobody is signed in.");
  await inspect(page, "signed-out");
  await backfill(page, url);

  let { code, address } = await signIn(browser, page);
  await inspect(page, "code");
  const other = await person(browser);
  await other.goto(url);
  await says(other, "A sign-in is under way");
  assert(!(await other.content()).includes(code), "a second person sees the code");
  await inspect(other, "second-person");
  await other.context().close();
  await page.locator("#press-cancel").click();
  await says(page, "The sign-in was cancelled");
  await inspect(page, "cancelled");

  for (const [answer, name, words] of [
    ["Cancel", "declined", /declined/],
    ["Sign in with an account of another tenant", "wrong-tenant", /tenant/],
  ]) {
    ({ code, address } = await signIn(browser, page));
    await enter(browser, address, code, answer);
    // Without a touch: the page looks by itself.
    await page.locator("#verdict", { hasText: words }).waitFor({ timeout: 30_000 });
    await inspect(page, name);
  }

  ({ code, address } = await signIn(browser, page));
  await enter(browser, address, code, "export account");
  // A run may come between the sign-in and the page's next look.
  await says(page, /Signed in; alerts start to flow with the next run\.|Alerts are flowing/, 30_000);
  await inspect(page, "signed-in");
  await page.goto(url);
  for (let tries = 0; tries < 15 && !(await page.content()).includes("Alerts are flowing"); tries += 1) {
    await page.waitForTimeout(2_000);
    await page.reload();
  }
  await says(page, "Alerts are flowing", 1_000);
  await inspect(page, "flowing-again");

  const { before } = await possible(page);
  await start(page, before(30), before(1));
  await says(page, "The backfill was started.");
  // Without a touch again: the demo's runs work on it, and the page shows it.
  await page.locator("#backfill", { hasText: "Done on" }).waitFor({ timeout: 120_000 });
  assert.match(await page.locator("#backfill").innerText(), /Alerts\s+\d+ delivered/);
  await page.goto(url);
  await inspect(page, "backfill-done");
  // What is being typed outlives the page's own look for news.
  await page.getByLabel("From (UTC)").fill(before(3));
  const shown = await page.locator("#position").innerText();
  await page.waitForFunction((old) => document.querySelector("#position").innerText !== old, shown, { timeout: 90_000 });
  assert.equal(await page.locator("#backfill-from").inputValue(), before(3), "what was typed is gone");
  await page.context().close();
}

/** The app dies under an open page, and comes back. */
async function withoutAnswer(browser, url) {
  // Looks that fail are meant: nobody complains of them.
  const page = await (await browser.newContext()).newPage();
  await page.clock.install();
  await page.goto(url);
  await says(page, "Alerts are flowing");
  const verdict = page.locator("#verdict");
  const before = await verdict.innerText();
  const looks = "**/api/portal?*";
  const fails = [(route) => route.fulfill({ status: 503 }), (route) => route.abort(), (route) => route.abort()];
  for (const fail of fails) {
    assert.equal(await verdict.innerText(), before, "called dead too early");
    await page.route(looks, fail);
    const asked = page.waitForEvent("requestfinished", { timeout: 5_000 }).catch(() => {});
    const failed = page.waitForEvent("requestfailed", { timeout: 5_000 }).catch(() => {});
    await page.clock.runFor(61_000);
    await Promise.race([asked, failed]);
    await page.waitForTimeout(200);
    await page.unroute(looks);
  }
  await page.locator("#verdict.stopped", { hasText: /This page has had no answer since \d\d:\d\d UTC/ }).waitFor({ timeout: 5_000 });
  assert.match(await verdict.innerText(), /What to do: .*Azure portal/);
  assert.match(await page.title(), /^No answer - /);
  await inspect(page, "unanswered");
  await page.clock.runFor(61_000);
  await page.locator("#verdict:not(.stopped)", { hasText: "Alerts are flowing" }).waitFor({ timeout: 5_000 });
  assert.doesNotMatch(await page.title(), /No answer/);
  await page.context().close();
}

/** The same without script: the page reloads itself. */
async function withoutScript(browser, url) {
  const page = await person(browser, { javaScriptEnabled: false, viewport: SIZES.phone });
  await page.goto(url);
  await page.locator("#press-sign-in").click();
  await page.locator("#code").waitFor();
  await page.screenshot({ path: join(folder, "code-without-script.png"), fullPage: true });
  const before = await page.locator("#time-left").innerText();
  for (let tries = 0; tries < 30 && (await page.locator("#time-left").innerText()) === before; tries += 1) await page.waitForTimeout(500);
  assert.notEqual(await page.locator("#time-left").innerText(), before, "the page did not reload itself");
  await page.locator("#press-cancel").click();
  await says(page, "The sign-in was cancelled");
  await page.getByRole("link", { name: "Stop that while you fill in the form" }).click();
  assert.equal(await page.locator("meta[http-equiv=refresh]").count(), 0, "the page loads anew under the form");
  const { before: ago } = await possible(page);
  await start(page, ago(2), ago(2));
  await says(page, "is not before the end");
  await page.screenshot({ path: join(folder, "backfill-without-script.png"), fullPage: true });
  await start(page, ago(2), ago(1));
  await says(page, "The backfill was started.");
  await page.context().close();
}

const state = mkdtempSync(join(tmpdir(), "portal-"));
mkdirSync(folder, { recursive: true });
const running = [];
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"] });
try {
  const demo = await launch(["demo", "--state-dir", state], {}, (line) => line.match(/http:\/\/\S+\/api\/portal/)?.[0]);
  running.push(demo.child);
  await withScript(browser, `${demo.found}?${KEY}`);
  await withoutAnswer(browser, `${demo.found}?${KEY}`);
  await withoutScript(browser, `${demo.found}?${KEY}`);

  const port = "47713";
  const faulty = spawn(program, ["serve"], { env: { FUNCTIONS_CUSTOMHANDLER_PORT: port }, stdio: "ignore" });
  running.push(faulty);
  const page = await person(browser);
  for (let tries = 0; tries < 50; tries += 1) {
    try { await fetch(`http://127.0.0.1:${port}/`); break; } catch { await new Promise((done) => setTimeout(done, 100)); }
  }
  await page.goto(`http://127.0.0.1:${port}/api/portal`);
  await says(page, "Settings to correct");
  await inspect(page, "faulty");
} finally {
  await browser.close();
  for (const child of running) child.kill();
  rmSync(state, { recursive: true, force: true });
}
for (const complaint of new Set(complaints)) console.error(complaint);
console.log(complaints.length ? "failed" : "all promises kept");
process.exitCode = complaints.length ? 1 : 0;

// Chromium's MessageChannel between two renderer processes: a page of http://127.0.0.1:A and, in it, a frame of
// http://localhost:B, which is another site and therefore (--site-per-process) another process.
//
//     this program ── serves both pages, starts chromium, tells it over a pipe (DevTools protocol) what to measure
//       page   (renderer 1, first CPU)   asks
//       frame  (renderer 2, second CPU)  answers
//
// Both pages are cross-origin isolated, for a clock of 5 µs instead of 100 µs; percentiles are no finer than that.
'use strict';

const fs = require('fs');
const http = require('http');
const os = require('os');
const path = require('path');
const { spawn } = require('child_process');
const common = require('./common.js');

const options = common.parse();

// MARK: The two pages

const pages = {
  '/page': (framePort) => `<!doctype html><script src="/port_measurements.js"></script>
    <iframe allow="cross-origin-isolated" src="http://localhost:${framePort}/frame"></iframe><script>
    const ready = new Promise((resolve) => { onmessage = resolve; });
    const open = (kind, more) => {
      const { port1, port2 } = new MessageChannel();
      frames[0].postMessage({ kind, ...more }, '*', [port2]);
      return port1;
    };
    const giveWay = () => scheduler.postTask(() => {});  // a timer would wait 4 ms
    const measure = async (name, more) => {
      await ready;
      return portMeasurements[name](name === 'create' ? giveWay : open, more);
    };
  </script>`,
  '/frame': () => `<!doctype html><script src="/port_measurements.js"></script><script>
    onmessage = ({ data, ports }) => portMeasurements.answer(ports[0], data);
    parent.postMessage('ready', '*');
  </script>`,
};

function serve(framePort) {
  const server = http.createServer((request, response) => {
    const script = request.url === '/port_measurements.js';
    const body = script ? fs.readFileSync(path.join(__dirname, 'port_measurements.js')) : pages[request.url]?.(framePort);
    response.writeHead(body === undefined ? 404 : 200, {
      'Content-Type': script ? 'text/javascript' : 'text/html',
      'Cross-Origin-Opener-Policy': 'same-origin',
      'Cross-Origin-Embedder-Policy': 'require-corp',
      'Cross-Origin-Resource-Policy': 'cross-origin',
    });
    response.end(body);
  });
  return new Promise((resolve) => server.listen(0, () => resolve(server.address().port)));
}

// MARK: Chromium

const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'peers-chromium-'));
let browser;

function cleanUp() {
  try {
    process.kill(-browser.pid, 'SIGKILL');  // the browser and every process it started: it leads a group of its own
  } catch { /* has ended already */ }
  for (let i = 0; i < 20; i++) {
    try {
      fs.rmSync(profile, { recursive: true, force: true });
      return;
    } catch { /* a process that is being killed still writes */ }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
  }
}

/// Starts the browser; returns a function that sends one DevTools command and gives its result.
function startBrowser() {
  browser = spawn('setpriv', ['--pdeathsig', 'KILL', 'chromium',
    '--headless=new', '--no-sandbox', '--disable-gpu', '--site-per-process', '--remote-debugging-pipe',
    '--no-first-run', '--disable-extensions', '--disable-background-networking', '--disable-component-update',
    '--disable-sync', '--disable-breakpad', '--disable-dev-shm-usage',
    // Neither page is ever in front; without these their timers and priority would suffer for it.
    '--disable-renderer-backgrounding', '--disable-background-timer-throttling', '--disable-backgrounding-occluded-windows',
    // No renderer that is kept ready for a page to come, none for the address bar: two pages, two renderers.
    '--disable-features=SpareRendererForSitePerProcess,WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup,Translate,MediaRouter,OptimizationHints',
    `--user-data-dir=${profile}`, 'about:blank',
  ], { detached: true, env: { ...process.env, TMPDIR: profile }, stdio: ['ignore', 'ignore', process.env.PEERS_VERBOSE ? 'inherit' : 'ignore', 'pipe', 'pipe'] });
  const [, , , commands, answers] = browser.stdio;
  const waiting = new Map();
  let number = 0, text = '';
  answers.setEncoding('utf8');
  answers.on('data', (part) => {
    text += part;
    for (let end; (end = text.indexOf('\0')) >= 0; text = text.slice(end + 1)) {
      const message = JSON.parse(text.slice(0, end));
      const { resolve, reject } = waiting.get(message.id) ?? {};
      waiting.delete(message.id);
      if (message.error) reject?.(Error(message.error.message));
      else resolve?.(message.result);
    }
  });
  const gone = () => {
    for (const { reject } of waiting.values()) reject(Error('chromium has ended'));
  };
  browser.on('error', gone);
  answers.on('close', gone);
  commands.on('error', gone);
  return (method, params = {}, sessionId = undefined) => new Promise((resolve, reject) => {
    waiting.set(++number, { resolve, reject });
    commands.write(JSON.stringify({ id: number, method, params, sessionId }) + '\0');
  });
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/// CPU time of a process so far, in clock ticks.
function cpuTicks(pid) {
  const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

async function main() {
  const framePort = await serve();
  const pagePort = await serve(framePort);
  const command = startBrowser();
  const giveUp = setTimeout(() => fail('chromium did not start in time'), 60000);
  const { product } = await command('Browser.getVersion');
  const { targetId } = await command('Target.createTarget', { url: `http://127.0.0.1:${pagePort}/page` });
  const { sessionId } = await command('Target.attachToTarget', { targetId, flatten: true });
  const evaluate = async (expression) => {
    const { result, exceptionDetails } = await command('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true }, sessionId);
    if (exceptionDetails !== undefined) throw Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  const isLoaded = () => evaluate('typeof measure === "function" && document.readyState === "complete"').catch(() => false);
  while (!(await isLoaded())) await sleep(50);  // an attempt fails while there is no page yet; `giveUp` ends it
  if (!(await evaluate('crossOriginIsolated'))) throw Error('the page is not cross-origin isolated');
  const measure = (name, more) => evaluate(`measure(${JSON.stringify(name)}, ${JSON.stringify(more)})`);

  // Proof of two processes: the browser lists the frame as a target of its own, which it does for a frame in another
  // process only; and two renderers, no more and no fewer, spend CPU time while messages go back and forth.
  const { targetInfos } = await command('Target.getTargets');
  if (!targetInfos.some(({ type, url }) => type === 'iframe' && url.includes(`:${framePort}/frame`))) {
    throw Error('the frame is in the process of the page');
  }
  let busy = [];
  for (let attempt = 0; busy.length !== 2; attempt++) {  // the browser's own pages are busy too while they start
    if (attempt === 5) throw Error(`${busy.length} renderers at work instead of two`);
    const { processInfo } = await command('SystemInfo.getProcessInfo');
    const renderers = processInfo.filter(({ type }) => type === 'renderer').map(({ id }) => id);
    const before = renderers.map(cpuTicks);
    await measure('roundTrip', { size: 8, seconds: 1 });
    busy = renderers.filter((pid, i) => cpuTicks(pid) - before[i] >= 10);
  }
  clearTimeout(giveUp);

  await common.runCases({
    who: 'chromium_message_channel', engine: product, options, cleanUp,
    cases: common.portCases(measure, options.seconds, `two renderer processes (${busy.join(' and ')}), both sleep in their event loop`),
    // All threads of a renderer: a message also passes its I/O thread. The browser process stays where it is.
    place(cpus) {
      busy.forEach((pid, i) => common.pin(common.threadsOf(pid), cpus[i]));
    },
  });
}

function fail(why) {
  console.log(JSON.stringify({ who: 'chromium_message_channel', tier: 'peer', value: null, error: String(why) }));
  cleanUp();
  process.exit(1);
}

for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => fail('interrupted'));
main().catch((error) => fail(error.message));

// What the JavaScript programs share around their measurements: options, pinning, JSON lines, a deadline.
'use strict';

const fs = require('fs');
const { execFileSync, spawn } = require('child_process');

exports.parse = function () {
  const options = { cpus: [0, 1], seconds: 0.5, awake: false };
  const usage = () => {
    console.error('usage: [--cpus 0,1] [--metric NAME] [--size BYTES] [--seconds S] [--awake]');
    process.exit(2);
  };
  for (let i = 2; i < process.argv.length; i++) {
    const value = process.argv[i + 1];
    switch (process.argv[i]) {
      case '--awake': options.awake = true; continue;
      case '--cpus': options.cpus = (value ?? '').split(',').map(Number); break;
      case '--metric': options.metric = value; break;
      case '--size': options.size = Number(value); break;
      case '--seconds': options.seconds = Number(value); break;
      default: usage();
    }
    if (value === undefined) usage();
    i++;
  }
  const ok = options.cpus.length === 2 && options.cpus.every(Number.isInteger) && options.seconds > 0 && options.seconds <= 60;
  if (!ok) usage();
  return options;
};

// MARK: Pinning

/// The calling thread's id, in the main thread and in workers alike.
exports.threadId = () => Number(fs.readlinkSync('/proc/thread-self').split('/').pop());

exports.threadsOf = (process) => fs.readdirSync(`/proc/${process}/task`).map(Number);

/// Pins threads and reads the kernel's own mask back.
exports.pin = function (threads, cpu) {
  for (const thread of threads) {
    try {
      execFileSync('taskset', ['-pc', String(cpu), String(thread)], { stdio: ['ignore', 'ignore', 'ignore'] });
    } catch (error) {
      if (!fs.existsSync(`/proc/${thread}`)) continue;  // a thread that has ended meanwhile
      throw Error(`cannot pin thread ${thread} to CPU ${cpu}`);
    }
    const status = fs.readFileSync(`/proc/${thread}/status`, 'utf8');
    if (/Cpus_allowed_list:\s*(\S+)/.exec(status)[1] !== String(cpu)) throw Error(`thread ${thread} is not on CPU ${cpu}`);
  }
};

/// Keeps a CPU from halting: a process of the lowest class, which dies with this one.
function startSpinner(cpu) {
  const command = ['--pdeathsig', 'KILL', 'chrt', '--idle', '0', 'taskset', '-c', String(cpu), 'sh', '-c', 'while :; do :; done'];
  return spawn('setpriv', command, { stdio: 'ignore' });
}

// MARK: Output

/// Microseconds since start-up in which some thread on this machine had to wait for a CPU.
function waitedMicroseconds() {
  try {
    return Number(/some .*total=(\d+)/.exec(fs.readFileSync('/proc/pressure/cpu', 'utf8'))[1]);
  } catch {
    return 0;  // the kernel does not say
  }
}

function percentile(sorted, percent) {
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))];
}

/// Nanoseconds, to three significant digits, and how many took so long.
function histogram(sorted) {
  const counts = new Map();
  for (const sample of sorted) {
    const bucket = Number(sample.toPrecision(3));
    counts.set(bucket, (counts.get(bucket) ?? 0) + 1);
  }
  return [...counts];
}

const rounded = (value) => Math.round(value * 10) / 10;

/// Runs the cases the options ask for, one line each. A case: { metric, size, variant, note, run }, where `run` gives
/// a rate, or samples in milliseconds. `place(cpus)` pins both sides before each case.
exports.runCases = async function ({ who, engine, options, cases, place, cleanUp = () => {} }) {
  let failed = false;
  const spinners = options.awake ? [...new Set(options.cpus)].map(startSpinner) : [];
  const end = (status) => {
    for (const spinner of spinners) spinner.kill('SIGKILL');
    cleanUp();
    process.exit(status);
  };
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => end(130));
  for (const { metric, size, variant, note, run } of cases) {
    if (options.metric !== undefined && options.metric !== metric) continue;
    if (options.size !== undefined && options.size !== size) continue;
    const unit = metric.endsWith('_ns') ? 'ns' : metric.includes('bytes') ? 'B/s' : '1/s';
    const head = { who, tier: 'peer', metric, variant, size };
    const deadline = setTimeout(() => {
      console.log(JSON.stringify({ ...head, value: null, unit, error: 'not done before the deadline' }));
      end(1);  // what is still on its way could disturb the next case
    }, options.seconds * 3000 + 15000);
    try {
      const cpus = metric.includes('onecore') ? [options.cpus[0], options.cpus[0]] : options.cpus;
      await place(cpus);
      const waited = waitedMicroseconds(), began = performance.now();
      const result = await run();
      const pressure = (waitedMicroseconds() - waited) / 1000 / (performance.now() - began);
      const figure = { ...head, unit };
      if (Array.isArray(result)) {
        const nanoseconds = Float64Array.from(result, (sample) => sample * 1e6).sort();
        figure.value = rounded(percentile(nanoseconds, 50));
        for (const percent of [50, 99, 99.9, 99.99]) figure[`p${percent}`] = rounded(percentile(nanoseconds, percent));
        figure.mean = rounded(nanoseconds.reduce((sum, sample) => sum + sample, 0) / nanoseconds.length);
        figure.min = rounded(nanoseconds[0]);
        figure.max = rounded(nanoseconds[nanoseconds.length - 1]);
        figure.samples = nanoseconds.length;
        figure.histogram = histogram(nanoseconds);
      } else {
        if (!(result > 0)) throw Error('no figure came back');
        figure.value = rounded(unit === 'B/s' ? result * size : result);
      }
      console.log(JSON.stringify({ ...figure, cpus: cpus.join(), awake: options.awake || undefined,
                                   pressure: Math.round(pressure * 100) / 100, build: engine, note }));
    } catch (error) {
      failed = true;
      console.log(JSON.stringify({ ...head, value: null, unit, error: String(error.message ?? error) }));
    }
    clearTimeout(deadline);
  }
  end(failed ? 1 : 0);
};

/// The cases of two sides that are joined by message ports. `measure(name, options)` runs one of port_measurements.js.
exports.portCases = function (measure, seconds, what) {
  const cases = [];
  const windowNote = (window) => `structured clone copies in and out; at most ${window} on their way; ${what}`;
  for (const metric of ['rtt_sleep_ns', 'rtt_sleep_onecore_ns']) {
    for (const size of [8, 1024]) {
      cases.push({ metric, size, note: `postMessage of a typed array there and back, structured clone; ${what}`,
                   run: () => measure('roundTrip', { size, seconds }) });
    }
  }
  for (const [size, window] of [[8, 1000], [64, 1000], [1024, 1000], [8192, 200]]) {
    cases.push({ metric: 'oneway_msgs_per_s', size, note: windowNote(window),
                 run: () => measure('oneWay', { size, window, seconds }) });
  }
  for (const size of [65536, 1048576]) {
    cases.push({ metric: 'oneway_bytes_per_s', size, note: windowNote(16),
                 run: () => measure('oneWay', { size, window: 16, seconds }) });
    cases.push({ metric: 'oneway_bytes_per_s', size, variant: 'transferred',
                 note: `a fresh buffer filled, its ownership passed in the transfer list, its bytes copied out by the receiver; at most 16 on their way; ${what}`,
                 run: () => measure('oneWay', { size, window: 16, transferred: true, seconds }) });
  }
  cases.push({ metric: 'codable_msgs_per_s', note: `an object of five fields, one nested; ${windowNote(1000)}`,
               run: () => measure('oneWay', { format: 'object', window: 1000, seconds }) });
  cases.push({ metric: 'create_per_s', note: 'new MessageChannel and both ports closed, on one side',
               run: () => measure('create', { seconds }) });
  for (const [metric, inFlight] of [['transfer_reply_per_s', 1], ['transfer_pipelined_per_s', 64]]) {
    cases.push({ metric, note: `MessageChannel made, one port posted to the far side, first answer over it received, closed; ${inFlight} in flight; ${what}`,
                 run: () => measure('transfer', { inFlight, seconds }) });
  }
  return cases;
};

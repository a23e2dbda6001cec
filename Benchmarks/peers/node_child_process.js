// Node's child_process.fork: messages between two processes over the channel that `fork` sets up, once with its
// default serialization (JSON) and once with 'advanced' (structured clone). It cannot pass message ports.
'use strict';

const { fork } = require('child_process');
const measurements = require('./port_measurements.js');
const common = require('./common.js');

/// Either end of the channel, as the measurements want it. `onmessage` belongs to the latest opener.
function portOver(end) {
  const port = { postMessage: (message) => end.send(message), onmessage: null, close: () => { port.onmessage = null; } };
  return port;
}

if (process.argv.includes('--child')) {
  let port;
  process.on('message', (message) => {
    if (message.kind !== undefined) {
      port = portOver(process);
      measurements.answer(port, message);
    } else {
      port.onmessage({ data: message });
    }
  });
  process.on('disconnect', () => process.exit());
} else {
  const options = common.parse();
  const { seconds } = options;
  const cases = [];
  // Each case gets a process of its own: what one case leaves in the channel cannot reach the next.
  let child, serialization = 'json';
  const start = () => {
    child = fork(__filename, ['--child'], { serialization });
    return new Promise((resolve) => child.once('spawn', resolve));
  };
  const stop = () => child?.kill('SIGKILL');
  const measure = async (mode, cpus, name, more) => {
    serialization = mode;
    await start();
    common.pin(common.threadsOf(child.pid), cpus[1]);
    common.pin(common.threadsOf(process.pid), cpus[0]);
    const open = (kind, request) => {
      const port = portOver(child);
      child.on('message', (message) => port.onmessage?.({ data: message }));
      child.send({ kind, ...request });
      return port;
    };
    try {
      return await measurements[name](open, { ...more, seconds });
    } finally {
      stop();
    }
  };
  const oneCore = [options.cpus[0], options.cpus[0]];
  for (const [variant, format, what] of [['json', 'text', 'a string, as JSON'], ['advanced', 'bytes', 'a typed array, structured clone']]) {
    const note = `${what}; over a socket, two processes, both sleep in their event loop`;
    for (const [metric, cpus] of [['rtt_sleep_ns', options.cpus], ['rtt_sleep_onecore_ns', oneCore]]) {
      for (const size of [8, 1024]) {
        cases.push({ metric, size, variant, note, run: () => measure(variant, cpus, 'roundTrip', { size, format }) });
      }
    }
    for (const [size, window] of [[8, 1000], [64, 1000], [1024, 1000], [8192, 200]]) {
      cases.push({ metric: 'oneway_msgs_per_s', size, variant, note: `${note}; at most ${window} on their way`,
                   run: () => measure(variant, options.cpus, 'oneWay', { size, format, window }) });
    }
    for (const size of [65536, 1048576]) {
      cases.push({ metric: 'oneway_bytes_per_s', size, variant, note: `${note}; at most 16 on their way`,
                   run: () => measure(variant, options.cpus, 'oneWay', { size, format, window: 16 }) });
    }
    cases.push({ metric: 'codable_msgs_per_s', variant,
                 note: `an object of five fields, one nested; serialization '${variant}'; over a socket, two processes; at most 1000 on their way`,
                 run: () => measure(variant, options.cpus, 'oneWay', { format: 'object', window: 1000 }) });
  }
  // How long after its death a process that sleeps is missed: once for each process that is started.
  cases.push({
    metric: 'death_notice_ns', note: "from kill('SIGKILL') to the event 'disconnect'; both sides sleep",
    run: async () => {
      const samples = [];
      for (const end = performance.now() + seconds * 1000; performance.now() < end || samples.length < 3;) {
        await start();
        common.pin(common.threadsOf(child.pid), options.cpus[1]);
        common.pin(common.threadsOf(process.pid), options.cpus[0]);
        await new Promise((resolve) => setTimeout(resolve, 60));  // it sleeps by now
        const gone = new Promise((resolve) => child.once('disconnect', resolve));
        const before = performance.now();
        stop();
        await gone;
        samples.push(performance.now() - before);
      }
      return samples;
    },
  });
  common.runCases({
    who: 'node_child_process', engine: `node ${process.version}`, options, cases,
    place() {},  // pinned in `measure`, once the child exists
    cleanUp: stop,
  });
}

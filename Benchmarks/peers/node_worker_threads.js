// Node's worker_threads: MessageChannel between the main thread and a worker of the same process.
'use strict';

const { isMainThread, parentPort, Worker } = require('worker_threads');
const measurements = require('./port_measurements.js');
const common = require('./common.js');

if (!isMainThread) {
  parentPort.on('message', (request) => measurements.answer(request.port, request));
  parentPort.postMessage(common.threadId());
} else {
  const options = common.parse();
  const worker = new Worker(__filename);
  worker.once('message', (workerThread) => {
    const open = (kind, more) => {
      const { port1, port2 } = new MessageChannel();
      worker.postMessage({ kind, ...more, port: port2 }, [port2]);
      return port1;
    };
    const giveWay = () => new Promise(setImmediate);
    const measure = (name, more) => measurements[name](name === 'create' ? giveWay : open, more);
    common.runCases({
      who: 'node_worker_threads', engine: `node ${process.version}`, options,
      cases: common.portCases(measure, options.seconds, 'two threads of one process, both sleep in their event loop'),
      // The engine's own helper threads stay where the kernel puts them.
      place(cpus) {
        common.pin([process.pid], cpus[0]);
        common.pin([workerThread], cpus[1]);
      },
    });
  });
}

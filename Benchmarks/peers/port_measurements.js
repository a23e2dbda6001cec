// The measurements that every JavaScript peer shares. Loaded by Node on both sides, and by the two pages in Chromium.
//
// `open(kind, options)` gives the asking side a fresh port-like object (postMessage, onmessage, close) whose other end
// is in the hands of `answer` on the far side, after that received { kind, ...options }.
//
// Nobody spins: both sides sleep in their event loop whenever nothing is there to be handled.
'use strict';

(function (exports) {
  const warmUpSeconds = 0.2;  // also lets the engine compile the handlers
  const now = () => performance.now();  // milliseconds

  // MARK: Messages. First and last word carry the sequence number and its complement; the rest is a pattern. The
  // receiver checks both words of each message and the body of one in 256.

  const formats = {
    bytes: {
      make(size) {
        const words = new Uint32Array(size / 4);
        for (let i = 0; i < words.length; i++) words[i] = i * 2654435761;
        return words;
      },
      stamp(words, sequence) {
        words[0] = sequence;
        words[words.length - 1] = ~sequence;
        return words;
      },
      check(words, sequence) {
        if (words[0] !== sequence >>> 0 || words[words.length - 1] !== ~sequence >>> 0) throw Error(`message ${sequence} is damaged`);
        if (sequence % 256 !== 0) return;
        for (let i = 1; i < words.length - 1; i++) {
          if (words[i] !== (i * 2654435761) >>> 0) throw Error(`body of message ${sequence} is damaged`);
        }
      },
    },
    text: {
      make: (size) => 'x'.repeat(size - 8),
      stamp: (body, sequence) => String(sequence).padStart(8, '0') + body,
      check(text, sequence) {
        if (Number(text.slice(0, 8)) !== sequence) throw Error(`message ${sequence} is damaged`);
      },
    },
    object: {
      make: () => null,
      stamp: (_, sequence) => ({
        id: sequence, name: 'message port', ratio: 0.5, active: true, position: { x: 1, y: 2, label: 'p' },
      }),
      check(object, sequence) {
        if (object.id !== sequence || object.position.label !== 'p') throw Error(`object ${sequence} is damaged`);
      },
    },
  };

  // MARK: The far side

  exports.answer = function (port, { kind, format, window, seconds, copies }) {
    const { check } = formats[format ?? 'bytes'];
    let expected = 0;
    if (kind === 'echo') {
      port.onmessage = ({ data }) => {
        check(data, expected++);
        port.postMessage(data);
      };
    } else if (kind === 'count') {
      const copy = new Uint32Array(1 << 18);
      let begin = 0, counted = 0, next = now() + warmUpSeconds * 1000;
      port.onmessage = ({ data }) => {
        if (copies) copy.set(data);  // a transferred buffer is not copied by the engine
        check(data, expected++);
        if (expected % (window / 4) !== 0) return;
        const time = now();
        if (time >= next) {
          if (begin === 0) {
            begin = time;
            counted = expected;
            next = time + seconds * 1000;
          } else {
            port.postMessage({ perSecond: (expected - counted) / ((time - begin) / 1000) });
            next = Infinity;
            return;
          }
        }
        port.postMessage(window / 4);  // credit for as many more
      };
    } else if (kind === 'ports') {
      port.onmessage = ({ data }) => {
        data.port.postMessage(data.number);
        data.port.close();
      };
    } else {
      throw Error(`unknown kind ${kind}`);
    }
  };

  // MARK: The asking side

  /// Milliseconds of each round trip.
  exports.roundTrip = function (open, { size, format = 'bytes', seconds }) {
    const { make, stamp, check } = formats[format];
    const message = make(size), port = open('echo', { format }), samples = [];
    return new Promise((resolve, reject) => {
      let sequence = 0, before = now();
      const begin = before + warmUpSeconds * 1000, until = begin + seconds * 1000;
      port.onmessage = ({ data }) => {
        try {
          check(data, sequence++);
        } catch (error) {
          return reject(error);
        }
        const after = now();
        if (before >= begin) samples.push(after - before);
        if (after >= until) {
          port.close();
          return resolve(samples);
        }
        before = after;
        port.postMessage(stamp(message, sequence));
      };
      port.postMessage(stamp(message, 0));
    });
  };

  /// Messages per second, counted where they arrive. At most `window` are on their way, because a port queues without
  /// limit: the receiver gives credit for each quarter of the window.
  exports.oneWay = function (open, { size, format = 'bytes', transferred = false, window, seconds }) {
    const { make, stamp } = formats[format];
    const message = make(size), port = open('count', { format, window, seconds, copies: transferred });
    return new Promise((resolve) => {
      let sequence = 0;
      const send = (count) => {
        for (; count > 0; count--) {
          if (transferred) {
            const fresh = new Uint32Array(size / 4);
            fresh.set(message);
            port.postMessage(stamp(fresh, sequence++), [fresh.buffer]);
          } else {
            port.postMessage(stamp(message, sequence++));
          }
        }
      };
      port.onmessage = ({ data }) => {
        if (typeof data === 'number') return send(data);
        port.close();
        resolve(data.perSecond);
      };
      send(window);
    });
  };

  /// Channels made and closed per second; both ends stay here. Gives way now and then, so that closing can happen.
  exports.create = async function (giveWay, { seconds }) {
    const run = async (until) => {
      let made = 0;
      while (now() < until) {
        for (let i = 0; i < 100; i++, made++) {
          const channel = new MessageChannel();
          channel.port1.close();
          channel.port2.close();
        }
        await giveWay();
      }
      return made;
    };
    await run(now() + warmUpSeconds * 1000);
    const begin = now(), made = await run(begin + seconds * 1000);
    return made / ((now() - begin) / 1000);
  };

  /// Channels made, one port of each posted to the far side, its first answer received, both ports closed; per second.
  exports.transfer = function (open, { inFlight, seconds }) {
    const control = open('ports', {});
    return new Promise((resolve, reject) => {
      let number = 0, answered = 0, begin = 0, counted = 0, isOver = false;
      let next = now() + warmUpSeconds * 1000;
      const pass = () => {
        const { port1, port2 } = new MessageChannel(), expected = number++;
        port1.onmessage = ({ data }) => {
          port1.close();
          if (data !== expected) return reject(Error('wrong answer'));
          answered++;
          const time = now();
          if (time >= next && !isOver) {
            if (begin === 0) {
              begin = time;
              counted = answered;
              next = time + seconds * 1000;
            } else {
              isOver = true;
              resolve((answered - counted) / ((time - begin) / 1000));
            }
          }
          if (!isOver) return pass();
          if (answered === number) control.close();
        };
        control.postMessage({ number: expected, port: port2 }, [port2]);
      };
      for (let i = 0; i < inFlight; i++) pass();
    });
  };
})(typeof module === 'object' ? module.exports : (globalThis.portMeasurements = {}));

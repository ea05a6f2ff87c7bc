// The agent for extensions: requests with promises over native messaging, large ones in parts. docs/native-messaging.md
//
//   const agent = new SealAgent();
//   const {body} = await agent.request("GET", "/v1/seals");

const PART = 700 * 1024; // octets in a part; with base64 and what stands around them below the limit of 1 MiB
const WHOLE = 1000 * 1000; // octets of a message that needs no parts

export class SealAgentError extends Error {
  // problem: RFC 9457 problem details with code, title, title_zh, next_step, next_step_zh and facts
  constructor(problem) {
    super(`${problem.code}: ${problem.detail}`);
    this.code = problem.code;
    this.problem = problem;
  }
}

export class SealAgent {
  #port = null;
  #next = 1;
  #waiting = new Map(); // by id: {resolve, reject, event, parts}

  // token: of the paired extension; page: origin of the page it acts for, shown to the holder as the extension's word
  constructor({token = null, page = null} = {}) {
    this.token = token;
    this.page = page;
  }

  // Resolves with {status, headers, body}; what is no JSON comes as a Uint8Array in body.
  request(method, path, body, {idempotencyKey, signal} = {}) {
    return this.#start({method, path, body, idempotency_key: idempotencyKey}, {signal});
  }

  // Calls back with (name, data) for each event until the signal aborts. Resolves when the agent listens.
  events(callback, signal) {
    return this.#start({path: "/v1/events"}, {signal, event: callback});
  }

  close() {
    this.#port?.disconnect();
    this.#lost("closed");
  }

  #start(request, {signal, event}) {
    const id = this.#next++;
    const message = {id, ...request};
    if (this.token !== null) message.token = this.token;
    if (this.page !== null) message.page = this.page;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, {resolve, reject, event, parts: []});
      signal?.addEventListener("abort", () => this.#waiting.has(id) && this.#port?.postMessage({id, cancel: true}));
      this.#send(id, message);
    });
  }

  #send(id, message) {
    this.#port ??= this.#connect();
    const octets = new TextEncoder().encode(JSON.stringify(message));
    if (octets.length <= WHOLE) {
      this.#port.postMessage(message);
      return;
    }
    for (let start = 0, part = 0; start < octets.length; start += PART, part++) {
      const data = toBase64(octets.subarray(start, start + PART));
      this.#port.postMessage({id, part, last: start + PART >= octets.length, data});
    }
  }

  #connect() {
    const port = chrome.runtime.connectNative("sealagent");
    port.onMessage.addListener((message) => this.#received(message));
    port.onDisconnect.addListener(() => this.#lost(chrome.runtime.lastError?.message ?? "the bridge ended"));
    return port;
  }

  #received(message) {
    const waiting = this.#waiting.get(message.id);
    if (waiting === undefined) return; // cancelled meanwhile, or a fault of the protocol (id null)
    if ("part" in message) {
      waiting.parts.push(fromBase64(message.data));
      if (!message.last) return;
      message = JSON.parse(new TextDecoder().decode(joined(waiting.parts)));
    }
    if ("event" in message) {
      if (message.event === null) waiting.resolve();
      else waiting.event(message.event, message.data);
      return;
    }
    this.#waiting.delete(message.id);
    if (message.cancelled) waiting.reject(new DOMException("cancelled", "AbortError"));
    else if (message.status >= 400) waiting.reject(new SealAgentError(message.body));
    else {
      const body = message.encoding === "base64" ? fromBase64(message.body) : message.body;
      waiting.resolve({status: message.status, headers: message.headers, body});
    }
  }

  #lost(reason) {
    this.#port = null;
    const error = {code: "bridge_unreachable", detail: reason};
    for (const {reject} of this.#waiting.values()) reject(new SealAgentError(error));
    this.#waiting.clear();
  }
}

export function toBase64(octets) {
  let text = "";
  for (let start = 0; start < octets.length; start += 0x8000) {
    text += String.fromCharCode(...octets.subarray(start, start + 0x8000));
  }
  return btoa(text);
}

export function fromBase64(text) {
  const letters = atob(text);
  const octets = new Uint8Array(letters.length);
  for (let place = 0; place < letters.length; place++) octets[place] = letters.charCodeAt(place);
  return octets;
}

function joined(parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let start = 0;
  for (const part of parts) {
    all.set(part, start);
    start += part.length;
  }
  return all;
}

// The service worker: the one place that holds the connection. Pages of the extension ask it for work.
import {SealAgent, SealAgentError, toBase64} from "./sealagent.js";

let agent = null;
const events = [];

async function connected(page) {
  const {token = null} = await chrome.storage.local.get("token");
  agent ??= new SealAgent();
  agent.token = token;
  agent.page = page ?? null;
  return agent;
}

const work = {
  async request({method, path, body, key, page}) {
    const answer = await (await connected(page)).request(method, path, body, {idempotencyKey: key});
    if (answer.body instanceof Uint8Array) answer.body = toBase64(answer.body);
    return answer;
  },
  async together({paths}) {
    const known = await connected();
    return Promise.all(paths.map((path) => known.request("GET", path).then(({status}) => status, (error) => error.code)));
  },
  async pair({name}) {
    const known = await connected();
    const {body} = await known.request("POST", "/v1/pairings", {name});
    await chrome.storage.local.set({pairing: body});
    return body.code;
  },
  async complete() {
    const {pairing} = await chrome.storage.local.get("pairing");
    const known = await connected();
    const {body} = await known.request("POST", `/v1/pairings/${pairing.id}/complete`, {secret: pairing.secret});
    await chrome.storage.local.set({token: body.token});
    return body.application;
  },
  async listen() {
    const stop = new AbortController();
    const known = await connected();
    await known.events((name) => (events.push(name), stop.abort()), stop.signal);
    return "listening";
  },
  async heard() {
    return events;
  },
  async close() {
    agent?.close();
    agent = null;
  },
};

chrome.runtime.onMessage.addListener((message, sender, answer) => {
  work[message.work](message).then(
    (value) => answer({value}),
    (error) => answer({error: error instanceof SealAgentError ? error.problem : {code: String(error)}}),
  );
  return true; // the answer comes later
});

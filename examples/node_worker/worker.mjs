// A worker in Node, with nothing but what Node has: node worker.mjs URL DEPLOYMENT [TARGET]; its token is in PERDURE_TOKEN.
const [url, deployment, target = null] = process.argv.slice(2);
const tenant = process.env.PERDURE_TENANT ?? "default";
const LEASE_MS = Number(process.env.PERDURE_LEASE_MS ?? 30_000), WAIT_MS = 20_000;

// What it can do: from params and a signal that says when to stop, to a result.
const handlers = {
  upper: async (params) => ({ text: String(params.text).toUpperCase() }),
  sleep: (params, signal) => new Promise((done, failed) => {
    const timer = setTimeout(() => done({ slept: params.ms }), params.ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); failed(new Error("stopped")); });
  }),
};

async function ask(path, body, signal) {
  const answer = await fetch(`${url}/v1/tenants/${tenant}${path}`, {
    method: "POST", signal, body: JSON.stringify(body),
    headers: { "content-type": "application/json", authorization: `Bearer ${process.env.PERDURE_TOKEN ?? ""}` },
  });
  const said = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(said.detail), { code: said.code, again: said.retryable });
  return said;
}

async function work(leased) {
  const { command_id, token } = leased, stop = new AbortController();
  const at = (what, body) => ask(`/commands/${encodeURIComponent(command_id)}/${what}`, { token, ...body });
  let asked = false, lost = false;
  const renewing = setInterval(() => at("renew", { lease_ms: LEASE_MS }).then(
    (renewed) => { if (renewed.cancel_requested) { asked = true; stop.abort(); } },
    (error) => { if (error.code === "stale-lease") { lost = true; stop.abort(); } }), LEASE_MS / 3);
  let outcome;
  try {
    outcome = { status: "succeeded", result: (await handlers[leased.command](leased.params, stop.signal)) ?? null };
  } catch (error) {
    outcome = asked ? { status: "stopped" } : { status: "failed", code: "handler-error", message: String(error), retryable: true };
  }
  clearInterval(renewing);
  if (lost) return;
  for (let left = 10; left > 0; left--) { // until the server takes it, or somebody else has it
    try { return console.log(command_id, outcome.status, (await at("complete", { outcome })).state); }
    catch (error) { if (error.code && !error.again) return console.log(command_id, error.code); }
    await new Promise((done) => setTimeout(done, 500));
  }
}

const leaving = new AbortController();
process.on("SIGTERM", () => leaving.abort()); // what it has is finished, and nothing more is taken
while (!leaving.signal.aborted) {
  const wanted = { target, names: Object.keys(handlers), max_leases: 4, lease_ms: LEASE_MS, worker: `node ${process.pid}` };
  try {
    const { leases } = await ask(`/deployments/${encodeURIComponent(deployment)}/leases?wait_ms=${WAIT_MS}`, wanted, leaving.signal);
    await Promise.all(leases.map(work));
  } catch (error) {
    if (leaving.signal.aborted) break;
    console.error(error.message);
    await new Promise((done) => setTimeout(done, 1_000));
  }
}

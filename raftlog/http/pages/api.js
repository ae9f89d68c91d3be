// What this node is asked. Whatever goes wrong is an Error whose message is for people.

const WAIT_MS = 20_000;

/** What this node says of itself. Until it has, nothing can be changed. */
export const node = { read_only: true };

async function ask(path, options, signal) {
  const signals = [AbortSignal.timeout(WAIT_MS), ...(signal ? [signal] : [])];
  let response;
  try {
    response = await fetch(path, { cache: "no-store", signal: AbortSignal.any(signals), ...options });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Error("This node does not answer.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const body = await response.json().catch(() => ({}));
  const error = new Error(body.text || body.error || `This node answers ${response.status}.`);
  error.code = body.error;
  return error;
}

export const name = (text) => encodeURIComponent(text);

export async function get(path, signal) {
  return (await ask(path, {}, signal)).json();
}

/** The bytes, or null where there are none. */
export async function getBytes(path, signal) {
  const response = await ask(path, {}, signal);
  return response.status === 204 ? null : new Uint8Array(await response.arrayBuffer());
}

export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return (await ask(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

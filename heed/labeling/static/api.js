// Requests to the server that this page came from, and to nobody else.

export class Refused extends Error {
  constructor(status, problem) {
    super(problem);
    this.status = status;
  }
}

const token = () => document.querySelector('meta[name="form-token"]').content;

export const get = (path) => send(path, { method: "GET" });

export const post = (path, body, options = {}) =>
  send(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Form-Token": token() },
    body: JSON.stringify(body),
    ...options,
  });

// Again and again until an answer came, whatever it says: an answer that was lost on the way is given again.
export async function postUntilAnswered(path, body, whileWaiting) {
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try {
      return await post(path, body);
    } catch (error) {
      const busy = error instanceof Refused && (error.status === 429 || error.status >= 500);
      if (error instanceof Refused && !busy) throw error;
      whileWaiting();
      await new Promise((done) => setTimeout(done, wait));
    }
  }
}

async function send(path, options) {
  const answer = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  const body = await answer.json().catch(() => ({ problem: `The server answered ${answer.status}.` }));
  if (!answer.ok) throw new Refused(answer.status, body.problem ?? `The server answered ${answer.status}.`);
  return body;
}

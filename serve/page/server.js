// What the page asks of `dcae serve`.

const PATIENCE = 6; // times that a busy server is asked again
const RECONNECTS = 5; // times that a job's broken stream of events is taken up again

/** Something was refused, or failed; the message is a sentence for people. */
export class Refused extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

const waited = (seconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });

export class Server {
  /** Key that requests are made with; "" for none. */
  key = "";

  info() {
    return this.asked("info").then((answer) => answer.json());
  }

  /** A file as a Blob. */
  file(url, signal) {
    return this.asked(url, { signal }).then((answer) => answer.blob());
  }

  /**
   * The result of a job, which is cancelled at the server when the signal says so.
   *
   * @param {string} kind compare or decode
   * @param {Object} parameters of the query; those that are null are left out
   * @param {Blob} body
   * @param {Object} options
   * @param {AbortSignal} options.signal
   * @param {function({state, progress, stage, position})} options.onChange
   * @returns {Promise<Response>}
   */
  async run(kind, parameters, body, { signal, onChange }) {
    const query = new URLSearchParams({ kind });
    for (const [name, value] of Object.entries(parameters)) if (value != null) query.set(name, value);
    const job = await this.posted(`jobs?${query}`, body, signal, onChange);
    const cancel = () => this.asked(job.status_url, { method: "DELETE", keepalive: true }).catch(() => {});
    signal.addEventListener("abort", cancel, { once: true });
    addEventListener("pagehide", cancel);
    try {
      if (signal.aborted) cancel(); // while it was being sent
      signal.throwIfAborted();
      const end = await this.followed(job, signal, onChange);
      if (end.state !== "done") throw new Refused(end.error || "the work was cancelled");
      return await this.asked(job.result_url, { signal });
    } finally {
      signal.removeEventListener("abort", cancel);
      removeEventListener("pagehide", cancel);
    }
  }

  /** A job that was taken; a busy server is asked again when it says. */
  async posted(url, body, signal, onChange) {
    for (let times = 0; ; times++) {
      try {
        // Not stopped by the signal: a job whose answer is lost could not be cancelled.
        const answer = await this.asked(url, { method: "POST", body });
        return await answer.json();
      } catch (error) {
        if (![429, 503].includes(error.status) || times === PATIENCE) throw error;
        onChange({ state: "queued", progress: 0, stage: "The server is busy; asking again" });
        await waited(error.after, signal);
      }
    }
  }

  /** The last state of a job: done, failed or cancelled. */
  async followed(job, signal, onChange) {
    const over = (state) => ["done", "failed", "cancelled"].includes(state?.state);
    for (let times = 0; ; times++) {
      let state;
      try {
        const answer = await this.asked(job.events_url, { signal });
        for await (state of events(answer.body)) {
          signal.throwIfAborted();
          onChange(state);
          if (over(state)) return state;
        }
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (error.status || times === RECONNECTS) throw error;
      }
      state = await (await this.asked(job.status_url, { signal })).json();
      if (over(state)) return state;
      await waited(0.3, signal);
    }
  }

  /** An answer, or the sentence that it was refused with. */
  async asked(url, options = {}) {
    const headers = this.key ? { Authorization: `Bearer ${this.key}` } : {};
    let answer;
    try {
      // Such paths are the server's; the page may lie in a folder of another one.
      answer = await fetch(new URL(String(url).replace(/^\//, ""), document.baseURI), { ...options, headers });
    } catch (error) {
      if (options.signal?.aborted) throw options.signal.reason;
      throw new Refused("the server does not answer; is dcae serve still running?");
    }
    if (answer.ok) return answer;
    const said = await answer.json().catch(() => ({}));
    const refused = new Refused(said.error || `the server answered with HTTP ${answer.status}`, answer.status);
    refused.after = Math.min(Number(answer.headers.get("Retry-After")) || 1, 30);
    throw refused;
  }
}

/** States of a stream of events. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      const lines = text.split(/\r\n|\n|\r/);
      text = lines.pop();
      for (const line of lines) if (line.startsWith("data:")) yield JSON.parse(line.slice(5));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

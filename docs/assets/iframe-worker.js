// Browsers start no worker for a page that was opened as a file, and the search runs in a worker.
// For such pages this class runs the worker's script in a hidden frame instead.
class FrameWorker extends EventTarget {
  constructor(url) {
    super();
    this.onmessage = null;
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    document.body.appendChild(this.frame);
    this.loaded = new Promise((resolve) => this.frame.addEventListener("load", resolve));
    this.receive = (event) => {
      if (event.source !== this.frame.contentWindow) return;
      const message = new MessageEvent("message", { data: event.data });
      this.dispatchEvent(message);
      if (this.onmessage) this.onmessage(message);
    };
    window.addEventListener("message", this.receive);
    this.frame.srcdoc =
      "<script>postMessage = (data) => parent.postMessage(data, '*');</" +
      `script><script src="${url}"></` +
      "script>";
  }

  postMessage(data) {
    this.loaded.then(() => {
      const frame = this.frame.contentWindow;
      if (frame) frame.dispatchEvent(new MessageEvent("message", { data }));
    });
  }

  terminate() {
    window.removeEventListener("message", this.receive);
    this.frame.remove();
  }
}

if (location.protocol === "file:") window.Worker = FrameWorker;

// Registers `<job-progress>`; does nothing where there is no page, or where it is registered already.

import { JobProgress } from "./element.js";

if (globalThis.customElements && !customElements.get("job-progress")) customElements.define("job-progress", JobProgress);

export { JobProgress };

export { JobProgress } from "./element.js";

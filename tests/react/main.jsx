import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { App } from "./app.jsx";

const given = new URLSearchParams(location.hash.slice(1));
const options = { base: given.get("base"), getToken: () => given.get("token") };
createRoot(document.getElementById("root")).render(
  <StrictMode><App job={given.get("job")} options={options} /></StrictMode>,
);

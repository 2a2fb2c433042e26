// What a server renders: nothing is known yet, and nothing is asked.

import { renderToString } from "react-dom/server";

import { App } from "./app.jsx";

console.log(renderToString(<App job="job-1" options={{}} />));

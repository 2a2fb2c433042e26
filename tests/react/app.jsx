import { useState } from "react";
import { useJob } from "progress-stream/react";

/** One job; and a button that takes it away and brings it back. */
export function App({ job, options }) {
  const [shown, setShown] = useState(true);
  return (
    <main>
      <button onClick={() => setShown(!shown)}>toggle</button>
      {shown && <Bar job={job} options={options} />}
    </main>
  );
}

function Bar({ job, options }) {
  const { state, status } = useJob(job, options);
  return <progress aria-label={status} data-state={state?.state ?? "none"} value={state?.done ?? 0} max={state?.total ?? 1} />;
}

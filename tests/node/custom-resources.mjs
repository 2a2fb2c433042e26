// Checks Kubernetes objects of kinds that are not built in (Gateway API, Prometheus operator) against types made from those
// projects' own Go code. Reads a JSON array on standard input and prints one of the same length: each object's faults.
// The models' validators pass over fields that they do not know; those are found by watching which ones they read.
const MODELS = {
  "gateway.networking.k8s.io/v1": "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1",
  "monitoring.coreos.com/v1": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
};

/** The value, with every field that is read through it noted in `read`, by path. */
function watched(value, path, read) {
  if (value === null || typeof value !== "object") return value;
  return new Proxy(value, {
    get(target, name) {
      const field = target[name];
      if (typeof name !== "string" || !Object.hasOwn(target, name)) return field;
      read.add(`${path}/${name}`);
      return watched(field, `${path}/${name}`, read);
    },
  });
}

function paths(value, path = "") {
  if (value === null || typeof value !== "object") return [];
  return Object.entries(value).flatMap(([name, field]) => [`${path}/${name}`, ...paths(field, `${path}/${name}`)]);
}

async function faults(object) {
  const kind = await import(`${MODELS[object.apiVersion]}/${object.kind}`).then((module) => module[object.kind], () => undefined);
  if (kind === undefined) return [`${object.apiVersion} ${object.kind} is not known`];
  const read = new Set();
  try {
    // The method alone, for an instance would be a copy, made by reading every field.
    kind.prototype.validate.call(watched(object, "", read));
  } catch (error) {
    return [error.message];
  }
  return paths(object).filter((path) => !read.has(path)).map((path) => `${path} is no field`);
}

let text = "";
for await (const chunk of process.stdin) text += chunk;
console.log(JSON.stringify(await Promise.all(JSON.parse(text).map(faults))));

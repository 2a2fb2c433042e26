// A real OpenID Connect provider on loopback, for tests: node provider.mjs PORT REDIRECT_URI ISSUER?; anybody may sign in by a name.
// `root` is among the operators. Prints a line when it listens.

import Provider from "oidc-provider";

const [port, redirect, issuer = `http://127.0.0.1:${port}`] = process.argv.slice(2);
const provider = new Provider(issuer, {
  clients: [{
    client_id: "progress", client_secret: "a secret between the two", redirect_uris: [redirect],
    post_logout_redirect_uris: [new URL("/", redirect).href], grant_types: ["authorization_code"], response_types: ["code"],
  }],
  claims: { openid: ["sub"], profile: ["name", "groups"], email: ["email"] },
  conformIdTokenClaims: false,
  cookies: { keys: ["a key of these tests"] },
  pkce: { required: () => true },
  features: { devInteractions: { enabled: true }, rpInitiatedLogout: { enabled: true } },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: id, email: `${id}@example.com`, groups: id === "root" ? ["operators"] : ["staff"] }),
  }),
});
provider.listen(Number(port), "127.0.0.1", () => console.log("provider: listening"));

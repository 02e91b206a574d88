// One call a URL by Stripe's library for Node: `node stripe_node.mjs FOLDER URL ..`, where FOLDER has node_modules. Prints what was
// raised, as a line of JSON each.
import { createRequire } from "node:module";

const Stripe = createRequire(`${process.argv[2]}/`)("stripe");
for (const each of process.argv.slice(3)) {
  const url = new URL(each);
  const client = new Stripe("sk_test_1", { host: url.hostname, port: url.port, protocol: "http" });
  let seen;
  try {
    const made = await client.charges.create({ amount: 500, currency: "eur", source: "tok_visa" });
    seen = { raised: null, own: false, text: JSON.stringify(made) };
  } catch (error) {
    seen = { raised: error.constructor.name, own: error instanceof Stripe.errors.StripeError, text: error.message };
  }
  console.log(JSON.stringify(seen));
}

// A client of the classic panel protocol, with nothing but Node's own fetch.

import { readFileSync } from "node:fs";

class Api {
  constructor(url, key) {
    this.url = url;
    this.key = key;
  }

  order(data) {
    return this.ask("add", data);
  }

  status(order) {
    return this.ask("status", { order: id(order) });
  }

  multiStatus(orders) {
    return this.ask("status", { orders: ids(orders) });
  }

  services() {
    return this.ask("services");
  }

  refill(order) {
    return this.ask("refill", { order: id(order) });
  }

  multiRefill(orders) {
    return this.ask("refill", { orders: ids(orders) });
  }

  refillStatus(refill) {
    return this.ask("refill_status", { refill: id(refill) });
  }

  multiRefillStatus(refills) {
    return this.ask("refill_status", { refills: ids(refills) });
  }

  cancel(orders) {
    return this.ask("cancel", { orders: ids(orders) });
  }

  balance() {
    return this.ask("balance");
  }

  async ask(action, fields = {}) {
    const pairs = Object.entries({ key: this.key, action, ...fields });
    const body = pairs.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
    const headers = { "Content-Type": "application/x-www-form-urlencoded" };
    const reply = await fetch(this.url, { method: "POST", headers, body });
    return JSON.parse(await reply.text());
  }
}

function id(value) {
  if (!Number.isSafeInteger(value)) {
    throw new TypeError(`an id is a whole number, and not ${JSON.stringify(value)}`);
  }
  return value;
}

function ids(values) {
  return values.map(id).join(",");
}

const api = new Api(process.argv[2], process.argv[3]);
const results = [];
for (const [name, ...given] of JSON.parse(readFileSync(0, "utf8"))) {
  results.push(await api[name](...given));
}
process.stdout.write(JSON.stringify(results));

// The columns that the form offers, from files as people export them.

import assert from "node:assert/strict";
import test from "node:test";

import { columnsOf } from "../../web/dashboard/columns.js";

const utf16 = (text) => Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(text, "utf16le")]);

const files = {
  "commas": ["first_name,company\nAnn,Firm\n", ["first_name", "company"]],
  "semicolons and quotes": ['"first name";"a ""b"""\r\n1;2', ["first name", 'a "b"']],
  "tabs with a byte order mark": ["\ufeffname\tcity\n", ["name", "city"]],
  "UTF-16": [utf16("navn;by\r\nÅse;Tromsø"), ["navn", "by"]],
  "Windows-1252": [Buffer.from([0x70, 0x72, 0xe9, 0x6e, 0x6f, 0x6d, 0x2c, 0x61]), ["prénom", "a"]],
  "nothing": ["", []],
  "a name that no template could hold": ["ok,a|b,{x}\n", ["ok"]],
};

for (const [name, [content, columns]] of Object.entries(files)) {
  test(name, async () => {
    assert.deepEqual(await columnsOf(new Blob([content])), columns);
  });
}

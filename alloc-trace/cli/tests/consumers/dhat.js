// Has the viewer that comes with Valgrind read and display a file, on a page that only keeps what is put
// on it: prints what the viewer makes of it.
"use strict";
const fs = require("fs");
const vm = require("vm");

class Element {
  constructor(name, text) {
    Object.assign(this, { name, text, childNodes: [], style: {} });
    const classes = new Set();
    this.classList = {
      add: (...names) => names.forEach((name) => classes.add(name)),
      contains: (name) => classes.has(name),
    };
  }
  appendChild(child) {
    child.parentNode = this;
    this.childNodes.push(child);
    return child;
  }
  replaceChild(child, old) {
    child.parentNode = this;
    this.childNodes[this.childNodes.indexOf(old)] = child;
  }
  cloneNode() { return new Element(this.name, this.text); }
  addEventListener() {}
  set textContent(text) { this.childNodes = [new Element("#text", text)]; }
  get textContent() {
    return (this.text ?? "") + this.childNodes.map((child) => child.textContent).join("");
  }
}

const [viewer, file] = process.argv.slice(2);
const document = {
  body: new Element("body"),
  location: { search: "" },
  createElement: (name) => new Element(name),
  createTextNode: (text) => new Element("#text", text),
};
const context = vm.createContext({ document, window: {}, URLSearchParams, Intl, performance });
// What the viewer does when its user opens a file.
const open = `
  onLoad();
  gSelect.selectedIndex = 0;
  gFilename = "export";
  gData = JSON.parse(data);
  tryFunc(() => { buildTree(); displayTree(0, 0, 0); });
  [gRoot._totalBytes, gRoot._totalBlocks, gRoot._totalLifetimes, gRoot._atTGmaxBytes,
   gRoot._atTGmaxBlocks, gRoot._atTEndBytes, gRoot._atTEndBlocks]
`;
context.data = fs.readFileSync(file, "utf8");
const sums = vm.runInContext(fs.readFileSync(viewer, "utf8") + open, context);
console.log(JSON.stringify({ sums, text: document.body.textContent }));

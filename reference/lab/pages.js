// Links to the pages of what runs. Where its server is, only the browser knows: Jupyter writes it into each page it serves.

function proxy() {
  const config = document.getElementById("jupyter-config-data"); // JupyterLab, Notebook 7, Voila
  const told = config ? JSON.parse(config.textContent) : document.body.dataset; // the classic notebook
  // A server that is not ours has only jupyter-server-proxy's own place (reference/stack/proxied.py says what that breaks).
  return told.baseUrl && `${told.baseUrl.replace(/\/*$/, "/")}${told.edaProxy ?? "proxy"}`;
}

function element(tag, parent, properties = {}) {
  return parent.appendChild(Object.assign(document.createElement(tag), properties));
}

function render({ model, el }) {
  const root = element("ul", el, { className: "eda-pages" });
  const places = {}; // by name, where the password will stand
  for (const { name, address, port, user } of model.get("links")) {
    const through = port && proxy() ? `${proxy()}/${port}/` : address;
    const item = element("li", root);
    element("a", item, { href: through, target: "_blank", rel: "noopener", textContent: name });
    item.append(" · user ");
    element("code", item, { textContent: user });
    item.append(" · password ");
    places[name] = element("span", item);
    places[name].setAttribute("role", "status");
    const show = element("button", places[name], { textContent: "show", onclick: () => model.send({ show: name }) });
    show.setAttribute("aria-label", `show the password of ${name}`);
    if (through !== address) item.append(` · on this machine also ${address}`);
  }
  for (const words of model.get("missing")) element("li", root, { className: "missing", textContent: words });

  const told = ({ show, password }) => {
    if (!places[show]) return;
    places[show].replaceChildren();
    element("code", places[show], { className: "password", textContent: password }); // one click selects all of it
  };
  model.on("msg:custom", told);
  return () => model.off("msg:custom", told);
}

export default { render };

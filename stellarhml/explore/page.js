"use strict";
// Done in the browser: the page itself, its address, downloads, names for screen readers. The server's policy allows no
// script in the page and no eval, hence no CustomJS: the widgets are found by their names.
window.explorer = {
  later: null,
  async begin() {
    await Bokeh.embed.embed_items({}, JSON.parse(document.getElementById("render-items").textContent));
    const page = Bokeh.documents[0];
    if (!page) {
      document.getElementById("notes").textContent = "The page found no connection to its server. Load it anew.";
      return;
    }
    if (page.is_idle) this.ready(page); else page.idle.connect(() => this.ready(page));
  },
  ready(page) {
    if (window.innerWidth <= 760) {  // on a small screen the plots stay while the sliders scroll
      const air = page.get_model_by_name("transmission");
      const heights = air ? { flux: 170, transmission: 60, residual: 105 } : { flux: 220, residual: 110 };
      for (const [name, height] of Object.entries(heights)) page.get_model_by_name(name).height = height;
    }
    const [query, file] = ["query", "file"].map((name) => page.get_model_by_name(name));
    query.properties.data.change.connect(() => this.address(query));
    file.properties.data.change.connect(() => this.save(file, page));
    this.name();
    this.address(query);
  },
  address(source) {
    clearTimeout(this.later);  // browsers limit how often an address may change
    this.later = setTimeout(() => {
      history.replaceState(null, "", "?" + new URLSearchParams(source.data.query));
      this.name();
    }, 250);
  },
  async save(source, page) {
    const [[name], [text]] = [source.data.name, source.data.text];
    const view = () => Bokeh.index.find_one(page.get_model_by_name("root-view")).export("png").to_blob();
    this.download(name, name == "view.png" ? await view() : new Blob([text], { type: "text/plain" }));
  },
  download(name, blob) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  },
  plots: {
    flux: "Plot of the spectrum: model, lines and observed spectrum. The button CSV saves its values.",
    residual: "Plot of the residuals, observed minus model. The button CSV saves the fluxes.",
    transmission: "Plot of the transmission of the Earth's atmosphere. The button CSV saves its values.",
    map: "Map of the line over two labels, with the current point.",
    response: "Plot of the equivalent width of the line along each label.",
  },
  name() {
    for (const model of Bokeh.documents[0].all_models) {
      if (!model.tags.length && !(model.name in this.plots)) continue;  // finding a view takes time
      const root = Bokeh.index.find_one(model)?.shadow_el;
      if (!root) continue;
      if (model.tags.length) root.querySelector(".noUi-handle, input, button")?.setAttribute("aria-label", model.tags[0]);
      if (model.name in this.plots) {
        this.set([Bokeh.index.find_one(model).canvas_view.events_el], { role: "img", "aria-label": this.plots[model.name], tabindex: -1 });
        const bar = Bokeh.index.find_one(model.toolbar)?.shadow_el;
        this.set(bar?.querySelectorAll(".bk-OnOffButton, .bk-ClickButton") ?? [], { role: "button" });
      }
      // for the mouse only: in the field, the arrow keys do the same
      this.set(root.querySelectorAll(".bk-spin-btn"), { "aria-hidden": true, tabindex: -1 });
    }
  },
  set(elements, attributes) {
    for (const element of elements) for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  },
};
window.explorer.begin();

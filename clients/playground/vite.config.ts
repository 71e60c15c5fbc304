import { defineConfig } from "vite";

export default defineConfig({
  base: "./", // a proxy may show the page below a path
  build: {
    outDir: "../../server/atelier_server/playground",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false }, // it would be an inline script
    assetsInlineLimit: 0, // the page's policy allows no inline styles, scripts or fonts
  },
  resolve: { dedupe: ["@bufbuild/protobuf"] }, // the client has a copy of its own
  server: { proxy: { "/atelier.v1.GenerationService": "http://localhost:8080" } },
});

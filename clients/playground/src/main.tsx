import { render } from "preact";
import { App } from "./components/App";
import { openGallery } from "./gallery";
import { watchServer } from "./server";
import "./style.css";
import "./controls.css";

render(<App />, document.getElementById("page")!);
watchServer();
void openGallery();

// A file that misses its field would be opened in place of the page.
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());

import { render } from "preact";
import { App } from "./components/App";
import { openGallery } from "./gallery";
import { watchServer } from "./server";
import "./style.css";
import "./controls.css";

render(<App />, document.getElementById("page")!);
watchServer();
void openGallery();

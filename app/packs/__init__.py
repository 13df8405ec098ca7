"""One folder for each agent system; to add one is to add a folder and a line in `app.container`."""

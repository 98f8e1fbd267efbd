"""Asks TensorBoard's profile plugin what it finds in a folder of events, as a browser does; prints it as JSON.

Used by tests/profile.rs. Exit code 77: this Python has no such plugin.
"""

import gzip
import json
import sys

try:
    from werkzeug.test import Client
    from xprof.profile_plugin_loader import ProfilePluginLoader
    from xprof.server import DataProvider, TBContext, make_wsgi_app
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(77)

folder = sys.argv[1]
context = TBContext(folder, DataProvider(folder), TBContext.Flags(False))
context.hide_capture_profile_button = context.enable_tab_name_label = False
context.src_prefix = None
browser = Client(make_wsgi_app(ProfilePluginLoader().load(context)))


def ask(what, **query):
    answer = browser.get(f"/data/plugin/profile/{what}", query_string=query)
    body = answer.get_data()
    assert answer.status_code == 200, body
    return json.loads(gzip.decompress(body) if answer.content_encoding == "gzip" else body)


found = []
for run in ask("runs"):
    for host in ask("hosts", run=run, tag="trace_viewer@"):
        name = host["hostname"]
        trace = ask("data", run=run, tag="trace_viewer@", host=name, format="json")
        found.append({"run": run, "tools": ask("run_tools", run=run), "host": name, "events": trace["traceEvents"]})
json.dump(found, sys.stdout)

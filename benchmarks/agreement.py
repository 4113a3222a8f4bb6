def run(quick, cache):
    return {}

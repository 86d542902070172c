"""Is this machine fit?"""

import vsdk

with vsdk.Stream(vsdk.load(), "video.mp4") as stream:
    for event in stream:
        print(event)

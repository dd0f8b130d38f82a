from dcae.cli import main

main()
